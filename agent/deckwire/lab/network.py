"""The lab: a client's network, a host with a MACVLAN parent, and deckies on it.

::

    client ──veth── host: parent0 ══macvlan══ eth0 of each decky
    client0                       ══macvlan══ host0 (if wanted)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from pyroute2 import IPRoute, NetlinkError, netns
from pyroute2 import config as pyroute2_config

from deckwire.kernel.namespaces import inside, path_of
from deckwire.lab import namespaces
from deckwire.lab.namespaces import PATIENCE_SECONDS, LabError, wait_until
from deckwire.lab.offloads import set_offloads

PARENT = "parent0"
CLIENT_INTERFACE = "client0"
DECKY_INTERFACE = "eth0"
HOST_INTERFACE = "host0"

# Addresses for benchmarks (RFC 2544) and documentation (RFC 3849), which no real network has.
IPV4_BITS, IPV6_BITS = 16, 64
_CLIENTS = IPv4Address("198.18.0.1"), IPv6Address("2001:db8::c:1")
_DECKIES = IPv4Address("198.18.1.1"), IPv6Address("2001:db8::d:1")
_HOST = IPv4Address("198.18.255.1"), IPv6Address("2001:db8::1")

_PARENT_INDEX = 1000
"""Differs from that of the veth's other end. If both are equal, which is likely in new namespaces,
the kernel needs up to 1 s to report that the link is up."""
_GSO_MAX_SEGS = 65_535
"""The kernel's own GSO_MAX_SEGS."""
_DECKY_NAMES = ("web-01", "mail-01", "files-01")
_ENDING_SECONDS = 3.0
# It makes a namespace in a child process, and waits 2 s for that otherwise.
pyroute2_config.default_communicate_timeout = int(PATIENCE_SECONDS)
_IFA_F_NODAD, _IFA_F_TENTATIVE = 0x02, 0x40


@dataclass(frozen=True, slots=True)
class Node:
    """One member of the lab's network, in a namespace of its own."""

    name: str
    """``client``, ``host`` or the decky's name."""
    netns: str
    """Name of the network namespace, as in ``ip netns``."""
    interface: str
    """The interface with its addresses; on a host without addresses the MACVLAN parent."""
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()

    @property
    def v4(self) -> str:
        """The first IPv4 address."""
        return self.ipv4[0]

    @property
    def v6(self) -> str:
        """The first IPv6 address."""
        return self.ipv6[0]

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """The calling thread is in the node's namespace: sockets made there stay there."""
        return inside(self.netns)

    def connect(
        self,
        address: str,
        port: int,
        source: str | None = None,
        seconds: float = PATIENCE_SECONDS,
    ) -> socket.socket:
        """Opens a TCP connection from here, from the node's address `source` if it is given."""
        with self.inside():
            return socket.create_connection(
                (address, port), seconds, None if source is None else (source, 0)
            )


class Lab:
    """A context manager: the network exists inside ``with``, and nothing of it is left afterwards.

    That holds also after an exception, ^C, SIGTERM and SIGHUP. In the main thread the latter two
    raise SystemExit while the lab exists. After SIGKILL, remove_stale() removes what is left.

    Args:
        deckies: their names.
        clients: the number of the client's addresses, of IPv4 and IPv6 each.
        host_macvlan: the host has an interface on the MACVLAN too.
        mode: of the macvlans.
        offloads: false turns TSO, GSO and GRO off on every interface.
        mtu: of every interface.
    """

    def __init__(
        self,
        deckies: Sequence[str] = _DECKY_NAMES,
        *,
        clients: int = 1,
        host_macvlan: bool = False,
        mode: Literal["bridge", "vepa", "private", "passthru"] = "bridge",
        offloads: bool = True,
        mtu: int = 1500,
    ) -> None:
        stem = namespaces.new_stem()
        self._stem = stem
        self._mode = mode
        self._offloads = offloads
        self._mtu = mtu
        self._closing = contextlib.ExitStack()
        self._processes: list[subprocess.Popen[Any]] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self.directory = namespaces.RUN / stem
        """For the lab's files. Everyone can read it; it is removed with the lab."""
        self.client = Node("client", f"{stem}-client", CLIENT_INTERFACE, *_range(_CLIENTS, clients))
        self.host = Node("host", f"{stem}-host", PARENT)
        if host_macvlan:
            self.host = Node("host", f"{stem}-host", HOST_INTERFACE, *_range(_HOST, 1))
        self.deckies = tuple(
            Node(name, f"{stem}-{name}", DECKY_INTERFACE, *_range(_DECKIES, 1, at))
            for at, name in enumerate(deckies)
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Client, host and deckies."""
        return self.client, self.host, *self.deckies

    def __enter__(self) -> Self:
        _check_privileges()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, _exit)
        try:
            self.directory.mkdir(mode=0o755)
            self._build()
        except (NetlinkError, OSError) as error:
            self.close()
            raise LabError(f"the lab cannot be made: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process and server of the lab, then removes the network."""
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        # A second ^C must not leave half of the lab.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            self._end_processes()
            self._closing.close()
            if Path(path_of(self.host.netns)).exists():
                # This deletes the macvlans and the client's end too, also if a process still has
                # their namespaces open.
                with self.host.inside(), IPRoute() as route:
                    for index in route.link_lookup(ifname=PARENT):
                        route.link("del", index=index)
            namespaces.remove(self._stem)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def on_close(self, function: Callable[[], object]) -> None:
        """Calls `function` before the network is removed; the last one given is called first."""
        self._closing.callback(function)

    # --- processes ------------------------------------------------------------------------------

    def popen(
        self, node: Node | None, argv: Sequence[str | os.PathLike[str]], **options: Any
    ) -> subprocess.Popen[Any]:
        """Starts a process on `node` (None: in the caller's namespace). It ends with the lab.

        `options` are those of subprocess.Popen. Standard input is /dev/null by default. The process
        has a session of its own, so that ^C reaches only the maker of the lab. The caller closes
        pipes, because another thread may read them.
        """
        environment = {**(options.pop("env", None) or os.environ), namespaces.MARK: self._stem}
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        with contextlib.nullcontext() if node is None else node.inside():
            process = subprocess.Popen(argv, env=environment, **options)
        self._processes.append(process)
        return process

    def run(
        self,
        node: Node | None,
        argv: Sequence[str | os.PathLike[str]],
        *,
        seconds: float = PATIENCE_SECONDS,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a process on `node` to its end: its status, and its output as text.

        Raises:
            subprocess.TimeoutExpired: it took longer than `seconds`, and was killed.
        """
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        text = options.pop("input", None)
        if text is not None:
            options["stdin"] = subprocess.PIPE
        process = self.popen(node, argv, text=True, errors="replace", **options)
        try:
            stdout, stderr = process.communicate(text, timeout=seconds)
        finally:
            _kill_group(process, signal.SIGKILL)
            process.wait()
            self._processes.remove(process)
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def _end_processes(self) -> None:
        for process in self._processes:
            _kill_group(process, signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_SECONDS)
            _kill_group(process, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    # --- files ----------------------------------------------------------------------------------

    def deckies_file(self) -> Path:
        """Writes a deckies file for the agent, with every address of every decky: its path."""
        lines = [
            f"{address} {decky.name}\n"
            for decky in self.deckies
            for address in (*decky.ipv4, *decky.ipv6)
        ]
        path = self.directory / "deckies.txt"
        path.write_text("".join(lines))
        return path

    # --- the network ----------------------------------------------------------------------------

    def set_offloads(self, on: bool) -> None:
        """Turns TSO, GSO and GRO of every interface on or off, for connections from now on."""
        for node in self.nodes:
            with node.inside(), IPRoute() as route:
                if node is self.host:
                    set_offloads(PARENT, on)
                if node.interface != PARENT:
                    set_offloads(node.interface, on)
                if node.interface not in (PARENT, CLIENT_INTERFACE):
                    # A macvlan's TSO cannot be turned off, but limited to one segment a packet.
                    (index,) = route.link_lookup(ifname=node.interface)
                    route.link("set", index=index, gso_max_segs=_GSO_MAX_SEGS if on else 1)

    def _build(self) -> None:
        for node in self.nodes:
            netns.create(node.netns)
            with node.inside():
                _settle_ipv6()
        with self.host.inside(), IPRoute() as route:
            route.link(
                "add",
                ifname=PARENT,
                index=_PARENT_INDEX,
                kind="veth",
                mtu=self._mtu,
                peer={"ifname": CLIENT_INTERFACE, "net_ns_fd": self.client.netns},
            )
            parent = _PARENT_INDEX
            # Up before a macvlan is made on it, because that takes over its state.
            route.link("set", index=parent, mtu=self._mtu, state="up")
            _configure(self.client, self._mtu)
            _wait_up(route, parent)
            macvlan = {
                "kind": "macvlan",
                "link": parent,
                "macvlan_mode": self._mode,
                "mtu": self._mtu,
            }
            if self.host.ipv4:
                route.link("add", ifname=HOST_INTERFACE, **macvlan)
            for decky in self.deckies:
                route.link("add", ifname=DECKY_INTERFACE, net_ns_fd=decky.netns, **macvlan)
        for node in (self.host, *self.deckies):
            _configure(node, self._mtu)
        if not self._offloads:
            self.set_offloads(False)


def _range(
    first: tuple[IPv4Address, IPv6Address], count: int, offset: int = 0
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ipv4, ipv6 = first
    numbers = range(offset, offset + count)
    return tuple(str(ipv4 + n) for n in numbers), tuple(str(ipv6 + n) for n in numbers)


def _check_privileges() -> None:
    if os.geteuid():
        raise LabError("network namespaces cannot be made: only root can; try again with sudo")


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _kill_group(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    """Sends a signal to the process and its children, unless all have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _settle_ipv6() -> None:
    """Makes new addresses in this namespace usable at once, and asks for no routers."""
    for setting, value in (("disable_ipv6", 0), ("accept_dad", 0), ("accept_ra", 0)):
        for scope in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/{setting}").write_text(f"{value}\n")


def _configure(node: Node, mtu: int) -> None:
    """Brings up the node's interface, with all addresses, and its loopback."""
    with node.inside(), IPRoute() as route:
        (loopback,) = route.link_lookup(ifname="lo")
        (index,) = route.link_lookup(ifname=node.interface)
        route.link("set", index=loopback, state="up")
        route.link("set", index=index, mtu=mtu, state="up")
        for address in node.ipv4:
            route.addr("add", index=index, address=address, prefixlen=IPV4_BITS)
        for address in node.ipv6:
            route.addr("add", index=index, address=address, prefixlen=IPV6_BITS, flags=_IFA_F_NODAD)
        _wait_up(route, index)


def _wait_up(route: IPRoute, index: int) -> None:
    def usable() -> bool:
        (link,) = route.get_links(index)
        addresses = route.get_addr(index=index)
        tentative = any(entry["flags"] & _IFA_F_TENTATIVE for entry in addresses)
        return link.get_attr("IFLA_OPERSTATE") == "UP" and not tentative

    wait_until(usable, f"interface {index} up with its addresses")
