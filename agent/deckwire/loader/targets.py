"""Where the programs go: the user's interfaces, resolved to what carries the deckies' traffic."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from deckwire.kernel import rtnetlink
from deckwire.kernel.rtnetlink import Interface
from deckwire.kernel.syscalls import enter_network_namespace
from deckwire.limits import NETWORK_NAMESPACES
from deckwire.loader.errors import LoaderError

OWN_NAMESPACE = "/proc/thread-self/ns/net"
NAMESPACE_DIRECTORIES = ("/run/netns", "/run/docker/netns")
MACVLAN = ("macvlan", "macvtap")
IPVLAN = ("ipvlan", "ipvtap")


class AbsentError(LoaderError):
    """No interface has this name."""


class Target:
    """Where the programs go, resolved from one or more interfaces of the user's."""

    # No dataclass: to import those takes 8 ms, and each start waits for it.
    def __init__(self, interface: str, name: str, ifindex: int) -> None:
        self.interface = interface
        self.name = name
        self.ifindex = ifindex
        self.vepa = False
        self.notes: list[str] = []


def enter(netns: str, path: str, *, passing: bool) -> None:
    """Moves this process into a network namespace.

    Args:
        netns: what the user called it.
        path: of the file that stands for it.
        passing: the user expects it to come if it is not there.
    """
    try:
        with open(path, "rb") as namespace:
            enter_network_namespace(namespace.fileno())
    except FileNotFoundError as error:
        line = f"no network namespace {netns}: {path} does not exist"
        raise LoaderError(line, passing=passing) from error
    except PermissionError as error:
        raise LoaderError(
            f"cannot enter the network namespace {netns}: CAP_SYS_ADMIN missing"
        ) from error
    except OSError as error:
        # Also for a moment while it is being made.
        raise LoaderError(f"{netns} is no network namespace", passing=passing) from error


def resolve(names: Sequence[str], absent: dict[str, str] | None = None) -> list[Target]:
    """The interfaces that the programs go on, each once.

    Args:
        absent: gets the names that no interface has, each with a line for the user; None: such a
            name is an error.
    """
    if not names:
        return []
    with rtnetlink.open_socket() as channel:
        present = rtnetlink.list_interfaces(channel)
    targets: dict[int, Target] = {}
    for name in names:
        try:
            interface = _by_name(present, name)
        except AbsentError as error:
            if absent is None:
                raise
            absent[name] = str(error)
            continue
        target = _parent(present, interface)
        known = targets.get(target.ifindex)
        if known is None:
            known = Target(name, target.name, target.ifindex)
            targets[target.ifindex] = known
        if target is not interface:
            known.notes.append(f"{interface.kind} {name} -> parent {target.name}")
        elif interface.kind in MACVLAN:
            known.notes.append(
                f"the parent of {interface.kind} {name} is in another network namespace: "
                f"attached to {name} itself, which carries its own traffic alone"
            )
    if targets:
        _survey(targets)
    return list(targets.values())


def _by_name(present: Iterable[Interface], name: str) -> Interface:
    for interface in present:
        if interface.name == name:
            return interface
    names = ", ".join(sorted(interface.name for interface in present)[:20])
    raise AbsentError(f"no interface {name} in this network namespace (there are: {names})")


def _parent(present: Iterable[Interface], interface: Interface) -> Interface:
    """What to attach to for `interface`: a macvlan's parent where it can be seen, else itself."""
    name = interface.name
    if interface.flags & rtnetlink.IFF_LOOPBACK:
        raise LoaderError(f"{name} is the loopback: no decoy's traffic passes it")
    if interface.kind in IPVLAN:
        raise LoaderError(f"{name} is an {interface.kind}: only macvlan networks are supported")
    if interface.hardware != rtnetlink.ARPHRD_ETHER:
        raise LoaderError(f"{name} is no Ethernet interface (ARPHRD {interface.hardware})")
    if interface.kind in MACVLAN and interface.parent_nsid is None:
        for candidate in present:
            if candidate.ifindex == interface.parent:
                return candidate
    return interface


def _survey(targets: Mapping[int, Target]) -> None:
    """Looks at what stands on the targets, in every namespace: VEPA mode, ipvlan.

    Docker moves a container's macvlan into the container's namespace, where only a search of all
    of them finds it.
    """
    with open(OWN_NAMESPACE, "rb") as own, rtnetlink.open_socket() as channel:
        _survey_namespace(targets, rtnetlink.list_interfaces(channel), None)
        for namespace in _namespaces():
            try:
                enter_network_namespace(namespace)
            except PermissionError:  # so we are still where we were
                for target in targets.values():
                    target.notes.append(
                        f"{target.name}: macvlans in other namespaces are not looked at, "
                        "CAP_SYS_ADMIN is missing"
                    )
                return
            except OSError:  # a file left behind under /run/netns is no namespace
                continue
            with rtnetlink.open_socket() as there:
                nsid = rtnetlink.namespace_id(there, own.fileno())
                if nsid is not None:
                    _survey_namespace(targets, rtnetlink.list_interfaces(there), nsid)
        enter_network_namespace(own.fileno())


def _survey_namespace(
    targets: Mapping[int, Target], interfaces: Iterable[Interface], nsid: int | None
) -> None:
    """The same for one namespace, which knows that of the targets by `nsid` (None: it is it)."""
    for interface in interfaces:
        target = targets.get(interface.parent or 0)
        if target is None or interface.parent_nsid != nsid:
            continue
        if interface.kind in IPVLAN:
            raise LoaderError(
                f"{target.name} is the parent of {interface.kind} {interface.name}: only "
                "macvlan networks are supported"
            )
        if interface.macvlan_mode == rtnetlink.MACVLAN_MODE_VEPA and not target.vepa:
            target.vepa = True
            target.notes.append(f"{target.name} carries a macvlan in VEPA mode")


def _namespaces() -> Iterator[int]:
    """Open descriptors of the network namespaces that can be found, each once."""
    seen: set[tuple[int, int]] = set()
    for path in itertools.chain(
        *(glob.iglob(f"{directory}/*") for directory in NAMESPACE_DIRECTORIES),
        (f"/proc/{name}/ns/net" for name in os.listdir("/proc") if name.isdigit()),
    ):
        try:
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a process that has ended, or that we may not look at
            continue
        try:
            status = os.fstat(namespace)
            identity = status.st_dev, status.st_ino
            if identity not in seen and len(seen) < NETWORK_NAMESPACES:
                seen.add(identity)
                yield namespace
        finally:
            os.close(namespace)
