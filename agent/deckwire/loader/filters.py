"""The programs on an interface as clsact filters, where the kernel has no TCX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EEXIST, EINVAL, ENODEV, ENOENT, EPERM

from deckwire.kernel import rtnetlink
from deckwire.kernel.names import EGRESS, INGRESS
from deckwire.kernel.programs import Program
from deckwire.loader.errors import LoaderError
from deckwire.loader.targets import Target

FILTER_NAMES = {INGRESS: "deckwire_ingress", EGRESS: "deckwire_egress"}
"""clsact filters with these names are ours, also those of an agent that was killed."""
FILTER_PARENTS = {INGRESS: 0xFFFF_FFF2, EGRESS: 0xFFFF_FFF3}
"""TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and the same with TC_H_MIN_EGRESS."""
FILTER_PRIORITY = 49_152
"""0xC000, which the kernel assigns to a first filter without a priority."""
FILTER_HANDLE = 0xDEC
ETH_P_ALL = 3


def add_filters(target: Target, programs: Sequence[Program]) -> None:
    """Adds a filter for each program. Raises LoaderError."""
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
    """Deletes the filters that have our names. The qdisc stays, because others may use it.

    It imports nothing, because a service that stops has little time.
    """
    with rtnetlink.open_socket() as channel:
        if not rtnetlink.has_filters(channel, ifindex):
            return
        for program, parent in FILTER_PARENTS.items():
            try:
                filters = rtnetlink.bpf_filters(channel, ifindex, parent)
            except OSError as error:
                if error.errno in (EINVAL, ENODEV, ENOENT, EPERM):
                    continue
                raise
            for one in filters:
                if one.name == FILTER_NAMES[program]:
                    rtnetlink.delete_filter(channel, ifindex, parent, one)
