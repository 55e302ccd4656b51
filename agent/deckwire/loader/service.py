"""The loader's main function: it serves one request of the agent, in a process of its own.

Requests are the dictionaries that kernel/loading.py makes. They come over the socket pair of
kernel/handover.py. ``do`` is load, attach or detach. A reply with ``error`` has one line for the
user. The agent keeps in a file what compiler and verifier printed to standard error.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from deckwire.kernel import capabilities, cpus, handover, namespaces, rtnetlink
from deckwire.kernel.names import JUMPS_MAP, VEPA_PARENTS_MAP, XDP_PROGRAM
from deckwire.kernel.rings import ring_bytes
from deckwire.loader.again import attach_again
from deckwire.loader.attachment import TCX_TYPES, Assist, Filters, attach
from deckwire.loader.errors import LoaderError, Reply, answered
from deckwire.loader.filters import add_filters, delete_filters
from deckwire.loader.making import make, prepare
from deckwire.loader.module import open_rings, raise_memlock
from deckwire.loader.targets import enter_namespace, resolve

_FILTERS = Filters(add_filters, delete_filters)


def serve() -> None:
    """Serves the request that comes over the descriptor in the first argument.

    A second argument ``compile`` announces a request to load.
    """
    channel = socket.socket(fileno=int(sys.argv[1]))
    if "compile" in sys.argv[2:]:
        prepare()
    request, fds = handover.receive(channel)
    handover.send(channel, *answered(request["do"], lambda: _serve(request, fds)))


def _serve(request: dict[str, Any], fds: list[int]) -> Reply:
    netns = request["netns"]
    if netns is not None:
        if request["do"] == "detach" and not os.path.exists(namespaces.path_of(netns)):
            return {}, []
        enter_namespace(netns, passing=request.get("wait", False))
    if request["do"] == "detach":
        for ifindex in request["ifindexes"]:
            delete_filters(ifindex)
        return {}, []
    _check_capabilities(request["do"])
    if request["do"] == "load":
        return _load(request)
    return attach_again(request, fds, _FILTERS)


def _load(request: dict[str, Any]) -> Reply:
    resolution = resolve(request["interfaces"], wait=request["wait"])
    watch = rtnetlink.open_socket(rtnetlink.RTMGRP_LINK)
    raise_memlock()
    made = make(request)
    maps, loaded = made.maps, made.programs
    for slot, name in enumerate(request["jumps"]):
        maps[JUMPS_MAP].update(slot.to_bytes(4, "little"), loaded[name].fd.to_bytes(4, "little"))
    if JUMPS_MAP in maps:
        # Whoever gets hold of its descriptor can redirect or stop nothing.
        maps[JUMPS_MAP].freeze()
    if request["settings"]:
        made.write_settings(request["settings"])
    online = cpus.online()
    size = ring_bytes(request["ring_bytes"], len(online))
    rings = open_rings(maps, online, size)
    programs = {name: loaded[name] for name in request["programs"]}
    attached = [programs[name] for name in TCX_TYPES if name in programs]
    assist = Assist(None, "off")
    if request["xdp"] != "off":
        programs[XDP_PROGRAM] = loaded[XDP_PROGRAM]
        assist = Assist(programs[XDP_PROGRAM], request["xdp"])
    attachments, attachment_fds = attach(
        resolution.targets,
        attached,
        maps.get(VEPA_PARENTS_MAP),
        request["attach"],
        assist,
        _FILTERS,
    )
    reply = {
        "programs": list(programs),
        "maps": list(maps),
        "cpus": online,
        "ring_bytes": size,
        "attachments": attachments,
        "absent": resolution.absent,
        "headers": request["headers"],
        "kept": made.kept,
    }
    fds = [program.fd for program in programs.values()]
    fds += [table.fd for table in maps.values()]
    return reply, [*fds, *rings, watch.detach(), *attachment_fds]


def _check_capabilities(do: str) -> None:
    needed = capabilities.LOADING if do == "load" else capabilities.ATTACHING
    if lacking := capabilities.missing(needed, capabilities.held()):
        names = " and ".join(one.name for one in lacking)
        raise LoaderError(f"cannot {do}: {names} missing; run as root or grant it")
