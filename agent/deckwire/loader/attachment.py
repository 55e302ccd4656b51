"""The programs on an interface, attached next to other people's programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from errno import EBUSY, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP
from struct import Struct
from typing import Any, NamedTuple

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

_U32 = Struct("=I")


class Filters(NamedTuple):
    """How clsact filters are made and deleted: see deckwire.loader.filters."""

    add: Callable[[Target, Sequence[Program]], None]
    delete: Callable[[int], None]


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
    filters: Filters | None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Attaches to all targets or to none.

    Args:
        targets: interfaces of the calling thread's network namespace.
        programs: tc_ingress and tc_egress, or one of them.
        vepa_parents: the map for targets in VEPA mode, if the programs have one.
        method: ``auto``, ``tcx`` or ``clsact``.
        assist: for XDP.
        filters: None if the calling process may not make them.

    Returns:
        The members of a loading.Attachment for each target, and the descriptors of all, in order.

    Raises:
        LoaderError: with one line for the user.
    """
    attachments: list[dict[str, Any]] = []
    fds: list[int] = []
    try:
        for target in targets:
            first = len(fds)
            fds.append(lock.claim(target.ifindex, target.name).detach())
            if target.vepa and vepa_parents is not None:
                vepa_parents.update(_U32.pack(target.ifindex), b"\1")
            # Also before TCX: the filters of a killed agent would count every frame twice.
            if filters is not None:
                filters.delete(target.ifindex)
            links = _links(target, programs, method, filters)
            fds += links or []
            notes = list(target.notes)
            assists = _assist(target, assist, notes)
            fds += assists
            attachments.append(
                {
                    "interface": target.named.name,
                    "target": target.name,
                    "ifindex": target.ifindex,
                    "method": "clsact" if links is None else "tcx",
                    "vepa": target.vepa,
                    "xdp": assist.mode if assists else "off",
                    "notes": notes,
                    "fds": len(fds) - first,
                }
            )
    except BaseException:
        for fd in fds:
            os.close(fd)
        # Filters stay without a descriptor.
        for attachment in attachments:
            if attachment["method"] == "clsact" and filters is not None:
                filters.delete(attachment["ifindex"])
        raise
    return attachments, fds


def _links(
    target: Target, programs: Sequence[Program], method: str, filters: Filters | None
) -> list[int] | None:
    """TCX links; None if filters do it instead."""
    if filters is None:
        return _link(target, programs, "tcx")
    links = None if method == "clsact" else _link(target, programs, method)
    if links is None:
        filters.add(target, programs)
    return links


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
            for link in links:
                os.close(link)
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
