"""The programs on an interface: attached next to other people's programs, and detached again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EOPNOTSUPP, EPERM
from struct import Struct
from typing import Any, NamedTuple

from deckwire.kernel import rtnetlink
from deckwire.kernel.maps import Map
from deckwire.kernel.names import EGRESS, INGRESS
from deckwire.kernel.programs import (
    TCX_EGRESS,
    TCX_INGRESS,
    XDP_GENERIC,
    XDP_NATIVE,
    Program,
)
from deckwire.loader import lock
from deckwire.loader.errors import LoaderError
from deckwire.loader.targets import Target

TCX_TYPES = {INGRESS: TCX_INGRESS, EGRESS: TCX_EGRESS}

FILTER_NAMES = {INGRESS: "deckwire_ingress", EGRESS: "deckwire_egress"}
"""clsact filters with these names are ours, also those of an agent that was killed."""
FILTER_PARENTS = {INGRESS: 0xFFFF_FFF2, EGRESS: 0xFFFF_FFF3}
"""TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and the same with TC_H_MIN_EGRESS."""
FILTER_PRIORITY = 49_152
"""0xC000, which the kernel assigns to a first filter without a priority."""
FILTER_HANDLE = 0xDEC
ETH_P_ALL = 3

_U32 = Struct("=I")


class Assist(NamedTuple):
    """The XDP program, if one is wanted."""

    program: Program | None
    mode: str
    """``off``, ``generic`` or ``native``."""


def attach(
    targets: Sequence[Target],
    programs: Sequence[Program],
    vepa_parents: Map | None,
    method: str,
    assist: Assist,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Attaches to all targets or to none.

    Args:
        targets: interfaces of the calling thread's network namespace.
        programs: tc_ingress and tc_egress, or one of them.
        vepa_parents: the map for targets in VEPA mode, if the programs have one.
        method: ``auto``, ``tcx`` or ``clsact``.
        assist: for XDP.

    Returns:
        The members of a loading.Attachment for each target, and the descriptors of all, in order.

    Raises:
        LoaderError: with one line for the user.
    """
    attachments: list[dict[str, Any]] = []
    fds: list[int] = []
    try:
        for target in targets:
            claimed = lock.claim(target.ifindex, target.name)
            if target.vepa and vepa_parents is not None:
                vepa_parents.update(_U32.pack(target.ifindex), b"\1")
            # Also before TCX: the filters of a killed agent would count every frame twice.
            delete_filters(target.ifindex)
            links = None if method == "clsact" else _link(target, programs, method)
            if links is None:
                _add_filters(target, programs)
            notes = list(target.notes)
            assists = _assist(target, assist, notes)
            attachments.append(
                {
                    "interface": target.named.name,
                    "target": target.name,
                    "ifindex": target.ifindex,
                    "method": "clsact" if links is None else "tcx",
                    "vepa": target.vepa,
                    "xdp": assist.mode if assists else "off",
                    "notes": notes,
                    "fds": len(links or []) + len(assists) + 1,
                }
            )
            fds += [claimed.detach(), *(links or []), *assists]
    except BaseException:
        # Links end with this process, filters do not.
        for attachment in attachments:
            if attachment["method"] == "clsact":
                delete_filters(attachment["ifindex"])
        raise
    return attachments, fds


def _link(target: Target, programs: Sequence[Program], method: str) -> list[int] | None:
    """TCX links; None if the kernel has no TCX and `method` allows filters instead."""
    links: list[int] = []
    for program in programs:
        try:
            links.append(program.link(target.ifindex, TCX_TYPES[program.name]))
        except OSError as error:
            if error.errno == EINVAL and not links:  # an attach type that it does not know
                if method == "auto":
                    return None
                raise LoaderError(
                    f"cannot attach by TCX: Linux {os.uname().release} has none (6.6 or newer "
                    "is needed); use clsact or auto"
                ) from error
            passing = error.errno in (ENODEV, ENOMEM)
            raise LoaderError(
                f"cannot attach to {target.name}: {error.strerror}"
                + ("; try again" if passing else ""),
                passing=passing,
            ) from error
    return links


def _assist(target: Target, assist: Assist, notes: list[str]) -> list[int]:
    """The XDP link; without one a note says why, because TC alone is enough."""
    if assist.program is None:
        return []
    flags = XDP_NATIVE if assist.mode == "native" else XDP_GENERIC
    try:
        return [assist.program.link_xdp(target.ifindex, flags)]
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == EBUSY:
            why = "another XDP program is attached, and stays"
        elif error.errno == EOPNOTSUPP:
            why = f"its driver has no {assist.mode} XDP"
        notes.append(f"no XDP on {target.name}: {why}; TC does all the work")
        return []


def _add_filters(target: Target, programs: Sequence[Program]) -> None:
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 - 20 MB that TCX does not need

    with IPRoute() as route:
        try:
            route.tc("add", "clsact", target.ifindex)
        except NetlinkError as error:
            if error.code != EEXIST:
                raise LoaderError(
                    f"no clsact qdisc on {target.name}: {os.strerror(error.code)}; "
                    "make sure that the kernel has sch_ingress and cls_bpf"
                ) from error
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
                f"no clsact filter on {target.name}: {os.strerror(error.code)}; make sure that "
                f"tc qdisc show dev {target.name} shows clsact, and that no filter has handle "
                f"{FILTER_HANDLE:#x} of priority {FILTER_PRIORITY}"
            ) from error


def delete_filters(ifindex: int) -> None:
    """Deletes the filters that have our names. The qdisc stays, because others may use it."""
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
