"""The loader: compiles with BCC, loads, attaches, hands everything over and exits.

Run by the agent as ``python -m deckwire.loader FD``, where FD is its end of a socket pair
(kernel/handover.py); not for people. The only module that imports bcc and pyroute2, both late:
attaching alone does without bcc.

Requests are the dictionaries that kernel/loading.py makes; ``do`` is load, attach or detach.
An answer with ``error`` is one line for the user; what the compiler and the verifier printed to
standard error goes with it as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import itertools
import os
import re
import resource
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from errno import EADDRINUSE, EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

from deckwire.kernel import cpus, handover, rtnetlink
from deckwire.kernel.maps import Map
from deckwire.kernel.programs import (
    TCX_EGRESS,
    TCX_INGRESS,
    XDP_GENERIC,
    XDP_NATIVE,
    Program,
)
from deckwire.kernel.rings import open_ring, ring_bytes
from deckwire.kernel.rtnetlink import Interface
from deckwire.kernel.syscalls import enter_network_namespace
from deckwire.limits import NETWORK_NAMESPACES

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""<linux/capability.h>; CAP_SYS_ADMIN stands for the last two."""
CAP_SYS_ADMIN = 21

SAMPLES, SETTINGS, VEPA_PARENTS = "samples", "settings", "vepa_parents"
JUMPS, XDP_PROGRAM = "jumps", "xdp_ingress"
"""Maps that the loader itself writes."""

INGRESS, EGRESS = "tc_ingress", "tc_egress"
TCX_TYPES = {INGRESS: TCX_INGRESS, EGRESS: TCX_EGRESS}

# clsact: what makes a filter ours, also after the agent that made it was killed.
FILTER_NAMES = {INGRESS: "deckwire_ingress", EGRESS: "deckwire_egress"}
FILTER_PARENTS = {INGRESS: 0xFFFF_FFF2, EGRESS: 0xFFFF_FFF3}
FILTER_PRIORITY = 49_152
FILTER_HANDLE = 0xDEC
ETH_P_ALL = 3
CLSACT_HANDLE = 0xFFFF_0000

OWN_NAMESPACE = "/proc/thread-self/ns/net"
NAMESPACE_DIRECTORIES = ("/run/netns", "/run/docker/netns")
MACVLAN = ("macvlan", "macvtap")
IPVLAN = ("ipvlan", "ipvtap")

_U32 = Struct("=I")
_UCRED = Struct("=iII")


class LoaderError(Exception):
    """One line for the user: what, where, what to do."""


@dataclass(slots=True)
class Target:
    """Where the programs go, resolved from one or more interfaces of the user's."""

    interface: str
    name: str
    ifindex: int
    vepa: bool
    notes: list[str] = field(default_factory=list)


def main() -> int:
    """Serves one request; the exit status tells nothing that the answer does not."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    request, fds = handover.receive(channel)
    try:
        answer, results = _serve(request, fds)
    except LoaderError as error:
        handover.send(channel, {"error": str(error)}, [])
        return 1
    handover.send(channel, answer, results)
    return 0


def _serve(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    netns = request["netns"]
    if netns is not None:
        path = netns if "/" in netns else f"/run/netns/{netns}"
        if request["do"] == "detach" and not os.path.exists(path):
            return {}, []
        _enter(netns, path)
    if request["do"] == "detach":
        for ifindex in request["ifindexes"]:
            _delete_filters(ifindex)
        return {}, []
    _check_capabilities(request)
    if request["do"] == "load":
        return _load(request)
    targets = _resolve(request["interfaces"])
    supply = iter(fds)
    programs = [Program(name, next(supply)) for name in request["programs"]]
    vepa_parents = Map(next(supply)) if request["vepa"] else None
    xdp = next((program for program in programs if program.name == XDP_PROGRAM), None)
    hooks = [program for program in programs if program is not xdp]
    attachments, results = _attach(
        targets, hooks, vepa_parents, request["attach"], _Assist(xdp, request["xdp"])
    )
    return {"attachments": attachments}, results


# --- loading --------------------------------------------------------------------------------


def _load(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    targets = _resolve(request["interfaces"])
    watch = rtnetlink.open_socket(rtnetlink.RTMGRP_LINK)
    _raise_memlock()
    module = _compile(request)
    programs = _load_programs(module, request["programs"])
    maps = _maps(module)
    for slot, program in enumerate(_load_programs(module, request["jumps"]).values()):
        maps[JUMPS].update(slot.to_bytes(4, "little"), program.fd.to_bytes(4, "little"))
    if request["settings"]:
        _write_settings(module, request["settings"])
    online = cpus.online()
    size = ring_bytes(request["ring_bytes"], len(online))
    rings = _open_rings(maps, online, size)
    attached = [programs[name] for name in TCX_TYPES if name in programs]
    assist = _Assist(None, "off")
    if request["xdp"] != "off":
        programs |= _load_programs(module, [XDP_PROGRAM], module.XDP)
        assist = _Assist(programs[XDP_PROGRAM], request["xdp"])
    attachments, attachment_fds = _attach(
        targets, attached, maps.get(VEPA_PARENTS), request["attach"], assist
    )
    answer = {
        "programs": list(programs),
        "maps": list(maps),
        "cpus": online,
        "ring_bytes": size,
        "attachments": attachments,
        "headers": request["headers"],
    }
    fds = [program.fd for program in programs.values()]
    fds += [table.fd for table in maps.values()]
    return answer, [*fds, *rings, watch.detach(), *attachment_fds]


def _check_capabilities(request: dict[str, Any]) -> None:
    status = Path("/proc/self/status").read_text()
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(effective, 16)
    wanted = ["CAP_NET_ADMIN"]
    if not held >> CAP_SYS_ADMIN & 1:
        wanted += ["CAP_BPF"] + ["CAP_PERFMON"] * (request["do"] == "load")
    missing = [name for name in wanted if not held >> CAPABILITIES[name] & 1]
    if missing:
        raise LoaderError(f"{' and '.join(missing)} missing: run as root or grant the capability")


def _raise_memlock() -> None:
    """Before Linux 5.11 maps count against RLIMIT_MEMLOCK; _explain() tells if it is too low."""
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, infinite)


def _compile(request: dict[str, Any]) -> Any:
    """The compiled module with its maps made, a bcc.BPF."""
    try:
        from bcc import BPF  # noqa: PLC0415 - 72 MB that attaching alone does without
    except ImportError as error:
        raise LoaderError(
            "BCC's Python bindings are missing: install python3-bpfcc and use a virtual "
            "environment of /usr/bin/python3 with --system-site-packages"
        ) from error
    bpf_directory, source = request["bpf"], request["source"]
    if request["headers"] == "shim":
        os.environ["BCC_KERNEL_SOURCE"] = f"{bpf_directory}/shim"
    flags = [f"-I{bpf_directory}", "-Wno-macro-redefined"]
    flags += [f"-D{name}={int(value)}" for name, value in request["table_sizes"].items()]
    if request["replay_clock"]:
        flags.append("-DDECKWIRE_REPLAY_CLOCK")
    try:
        return BPF(src_file=source, cflags=flags)
    except Exception as error:  # bcc raises bare Exception for everything
        raise LoaderError(_explain(f"{Path(source).name} does not compile")) from error


def _load_programs(
    module: Any, names: Sequence[str], kind: int | None = None
) -> dict[str, Program]:
    programs = {}
    for name in names:
        try:
            function = module.load_func(name, module.SCHED_CLS if kind is None else kind)
        except Exception as error:  # bcc raises bare Exception for everything
            raise LoaderError(_explain(f"the kernel refused the program {name}")) from error
        programs[name] = Program(name, function.fd)
    return programs


def _maps(module: Any) -> dict[str, Map]:
    """All maps of the module. By its C functions: its Python tables cost a parse each."""
    from bcc import lib  # noqa: PLC0415 - see _compile

    lib.bpf_table_name.restype = ctypes.c_char_p
    maps = {}
    for number in range(lib.bpf_num_tables(module.module)):
        name = lib.bpf_table_name(module.module, number).decode()
        maps[name] = Map(lib.bpf_table_fd_id(module.module, number))
    return maps


def _write_settings(module: Any, settings: Mapping[str, int]) -> None:
    table = module[SETTINGS]
    known = {name for name, *_ in table.Leaf._fields_}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise LoaderError(f"struct settings has no field {unknown[0]}")
    table[table.Key(0)] = table.Leaf(**settings)


def _open_rings(maps: Mapping[str, Map], online: Iterable[int], size: int) -> list[int]:
    if SAMPLES not in maps:
        raise LoaderError(f"the program has no perf event array named {SAMPLES}")
    rings = []
    for cpu in online:
        try:
            fd = open_ring(cpu, size)
        except OSError as error:
            raise LoaderError(f"no perf ring (is perf locked down?): {error}") from error
        maps[SAMPLES].update(_U32.pack(cpu), _U32.pack(fd))
        rings.append(fd)
    return rings


def _explain(what: str) -> str:
    """`what` with its cause, picked from what bcc, clang and the kernel printed."""
    printed = ""
    with contextlib.suppress(OSError):  # standard error is a file only under the agent
        printed = os.pread(2, 1 << 24, 0).decode(errors="replace")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if "Operation not permitted" in printed and soft != resource.RLIM_INFINITY:
        return (
            f"{what}: not permitted; RLIMIT_MEMLOCK is {soft // 1024} KB and cannot be raised, "
            "before Linux 5.11 maps count against it: set LimitMEMLOCK=infinity"
        )
    compiler = re.search(r"^.*?([^/\n]+:\d+:\d+: (?:fatal )?error: .*)$", printed, re.MULTILINE)
    if compiler:
        return f"{what}: {compiler[1]}"
    if re.search(r"Unable to find kernel headers", printed):
        return f"{what}: no kernel headers are installed, use the shim (the default)"
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    last = [line for line in lines if not line.startswith(("processed ", "HINT", "Exception"))]
    cause = last[-1] if last else "no message"
    return f"{what} on Linux {os.uname().release} (5.10 or newer is needed): {cause}"


# --- interfaces -----------------------------------------------------------------------------


def _enter(netns: str, path: str) -> None:
    try:
        with open(path, "rb") as namespace:
            enter_network_namespace(namespace.fileno())
    except FileNotFoundError as error:
        raise LoaderError(f"no network namespace {netns}: {path} does not exist") from error
    except PermissionError as error:
        raise LoaderError(
            f"cannot enter the network namespace {netns}: CAP_SYS_ADMIN missing"
        ) from error
    except OSError as error:
        raise LoaderError(f"{netns} is no network namespace") from error


def _resolve(names: Sequence[str]) -> list[Target]:
    """The interfaces that the programs go on, each once."""
    if not names:
        return []
    with rtnetlink.open_socket() as channel:
        present = rtnetlink.list_interfaces(channel)
    targets: dict[int, Target] = {}
    for name in names:
        interface = _by_name(present, name)
        target = _parent(present, interface)
        known = targets.get(target.ifindex)
        if known is None:
            known = Target(name, target.name, target.ifindex, False)
            targets[target.ifindex] = known
        if target is not interface:
            known.notes.append(f"{interface.kind} {name} -> parent {target.name}")
        elif interface.kind in MACVLAN:
            known.notes.append(
                f"the parent of {interface.kind} {name} is in another network namespace: "
                f"attached to {name} itself, which carries its own traffic alone"
            )
    _survey(targets)
    return list(targets.values())


def _by_name(present: Iterable[Interface], name: str) -> Interface:
    for interface in present:
        if interface.name == name:
            return interface
    names = ", ".join(sorted(interface.name for interface in present)[:20])
    raise LoaderError(f"no interface {name} in this network namespace (there are: {names})")


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


# --- attachment -----------------------------------------------------------------------------


class _Assist(NamedTuple):
    """The program for XDP, if one is wanted."""

    program: Program | None
    mode: str
    """``off``, ``generic`` or ``native``."""


def _attach(
    targets: Sequence[Target],
    programs: Sequence[Program],
    vepa_parents: Map | None,
    way: str,
    assist: _Assist,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Attaches to all targets or to none: descriptions and the descriptors of each, in order."""
    attachments: list[dict[str, Any]] = []
    fds: list[int] = []
    try:
        for target in targets:
            lock = _claim(target)
            if target.vepa and vepa_parents is not None:
                vepa_parents.update(_U32.pack(target.ifindex), b"\1")
            # Also before TCX: a killed agent's filters would count every frame twice.
            _delete_filters(target.ifindex)
            links = None if way == "clsact" else _link(target, programs, way)
            if links is None:
                _add_filters(target, programs)
            notes = list(target.notes)
            assists = _assist(target, assist, notes)
            attachments.append(
                {
                    "interface": target.interface,
                    "target": target.name,
                    "ifindex": target.ifindex,
                    "way": "clsact" if links is None else "tcx",
                    "vepa": target.vepa,
                    "xdp": assist.mode if assists else "off",
                    "notes": notes,
                    "fds": len(links or []) + len(assists) + 1,
                }
            )
            fds += [lock.detach(), *(links or []), *assists]
    except LoaderError:
        for attachment in attachments:
            if attachment["way"] == "clsact":
                _delete_filters(attachment["ifindex"])
        raise
    return attachments, fds


def _claim(target: Target) -> socket.socket:
    """Keeps a second agent off the target for as long as any process has this socket.

    An abstract address belongs to the network namespace like the interface itself, is seen from
    every container that shares it, and is gone with the last descriptor even after a SIGKILL.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0deckwire-{target.ifindex}"
    try:
        lock.bind(address)
    except OSError as error:
        lock.close()
        if error.errno != EADDRINUSE:
            raise
        raise LoaderError(
            f"{target.name} is already watched by {_holder(address)}: stop that one first"
        ) from error
    lock.listen()
    return lock


def _holder(address: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as question:
        question.setblocking(False)
        try:
            question.connect(address)
            credentials = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except OSError:
            return "another process"
    pid, uid, _ = _UCRED.unpack(credentials)
    return f"process {pid} (user id {uid})" if pid else "a process of another container"


def _link(target: Target, programs: Sequence[Program], way: str) -> list[int] | None:
    """TCX links; None if the kernel has no TCX and `way` leaves the choice."""
    links: list[int] = []
    for program in programs:
        try:
            links.append(program.link(target.ifindex, TCX_TYPES[program.name]))
        except OSError as error:
            if error.errno == EINVAL and not links:  # an attach type that it does not know
                if way == "auto":
                    return None
                raise LoaderError(
                    f"Linux {os.uname().release} has no TCX (6.6 or newer): use clsact or auto"
                ) from error
            raise LoaderError(f"{target.name}: {error.strerror}") from error
    return links


def _assist(target: Target, assist: _Assist, notes: list[str]) -> list[int]:
    """The XDP link, or none and a note why: TC does without."""
    if assist.program is None:
        return []
    flags = XDP_NATIVE if assist.mode == "native" else XDP_GENERIC
    try:
        return [assist.program.link_xdp(target.ifindex, flags)]
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == EBUSY:
            why = "another XDP program is there and stays"
        elif error.errno == EOPNOTSUPP:
            why = f"its driver knows no {assist.mode} XDP"
        notes.append(f"no XDP on {target.name}: {why}; TC does it all")
        return []


def _add_filters(target: Target, programs: Sequence[Program]) -> None:
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 - 20 MB that TCX does without

    with IPRoute() as route:
        try:
            route.tc("add", "clsact", target.ifindex)
        except NetlinkError as error:
            if error.code != EEXIST:
                raise LoaderError(f"no clsact qdisc on {target.name}: {error}") from error
        try:
            for program in programs:
                route.tc(
                    "add-filter",
                    "bpf",
                    target.ifindex,
                    handle=FILTER_HANDLE,
                    parent=FILTER_PARENTS[program.name],
                    prio=FILTER_PRIORITY,
                    protocol=ETH_P_ALL,
                    fd=program.fd,
                    name=FILTER_NAMES[program.name],
                    direct_action=True,
                )
        except NetlinkError as error:
            _delete_filters(target.ifindex)
            raise LoaderError(
                f"no clsact filter on {target.name} (is its qdisc another kind, or is handle "
                f"{FILTER_HANDLE:#x} of priority {FILTER_PRIORITY} taken?): {error}"
            ) from error


def _delete_filters(ifindex: int) -> None:
    """Deletes the filters that carry our names; never the qdisc, it may be another's."""
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 - see _add_filters

    with IPRoute() as route:
        for program, parent in FILTER_PARENTS.items():
            try:
                filters = route.get_filters(index=ifindex, parent=parent)
            except NetlinkError as error:
                if error.code in (EINVAL, ENODEV, ENOENT, EPERM):
                    continue
                raise
            for entry in filters:
                options = entry.get_attr("TCA_OPTIONS")
                if options is None or entry.get_attr("TCA_KIND") != "bpf":
                    continue
                if options.get_attr("TCA_BPF_NAME") == FILTER_NAMES[program]:
                    route.tc(
                        "del-filter",
                        "bpf",
                        ifindex,
                        handle=entry["handle"],
                        parent=parent,
                        prio=entry["info"] >> 16,
                        protocol=ETH_P_ALL,
                    )


if __name__ == "__main__":
    sys.exit(main())
