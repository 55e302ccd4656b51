"""Putting the programs on an interface, beside other people's, and taking them off again."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from errno import EADDRINUSE, EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EOPNOTSUPP, EPERM
from struct import Struct
from typing import Any, NamedTuple

from deckwire.kernel import rtnetlink
from deckwire.kernel.maps import Map
from deckwire.kernel.programs import (
    TCX_EGRESS,
    TCX_INGRESS,
    XDP_GENERIC,
    XDP_NATIVE,
    Program,
)
from deckwire.loader.errors import LoaderError
from deckwire.loader.targets import Target

INGRESS, EGRESS = "tc_ingress", "tc_egress"
TCX_TYPES = {INGRESS: TCX_INGRESS, EGRESS: TCX_EGRESS}

# clsact: what makes a filter ours, also after the agent that made it was killed.
FILTER_NAMES = {INGRESS: "deckwire_ingress", EGRESS: "deckwire_egress"}
FILTER_PARENTS = {INGRESS: 0xFFFF_FFF2, EGRESS: 0xFFFF_FFF3}
FILTER_PRIORITY = 49_152
FILTER_HANDLE = 0xDEC
ETH_P_ALL = 3
CLSACT_HANDLE = 0xFFFF_0000

_U32 = Struct("=I")
_UCRED = Struct("=iII")


class Assist(NamedTuple):
    """The program for XDP, if one is wanted."""

    program: Program | None
    mode: str
    """``off``, ``generic`` or ``native``."""


def attach(
    targets: Sequence[Target],
    programs: Sequence[Program],
    vepa_parents: Map | None,
    way: str,
    assist: Assist,
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
            delete_filters(target.ifindex)
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
                delete_filters(attachment["ifindex"])
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
            f"{target.name} is already watched by {_holder(address)}: stop that one first",
            passing=True,
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
            passing = error.errno in (ENODEV, ENOMEM)
            raise LoaderError(f"{target.name}: {error.strerror}", passing=passing) from error
    return links


def _assist(target: Target, assist: Assist, notes: list[str]) -> list[int]:
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
            delete_filters(target.ifindex)
            raise LoaderError(
                f"no clsact filter on {target.name} (is its qdisc another kind, or is handle "
                f"{FILTER_HANDLE:#x} of priority {FILTER_PRIORITY} taken?): {error}"
            ) from error


def delete_filters(ifindex: int) -> None:
    """Deletes the filters that carry our names; never the qdisc, it may be another's."""
    with rtnetlink.open_socket() as channel:
        if not rtnetlink.has_filters(channel, ifindex):
            return
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
