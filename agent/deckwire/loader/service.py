"""Serves one request of the agent's, in a process of its own.

Requests are the dictionaries that kernel/loading.py makes, over the socket pair of
kernel/handover.py; ``do`` is load, attach or detach. An answer with ``error`` is one line for the
user; what the compiler and the verifier printed to standard error the agent keeps in a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from typing import Any

from deckwire.kernel import cpus, handover, rtnetlink
from deckwire.kernel.maps import Map
from deckwire.kernel.programs import Program
from deckwire.kernel.rings import ring_bytes
from deckwire.loader.attachment import TCX_TYPES, Assist, attach, delete_filters
from deckwire.loader.errors import LoaderError
from deckwire.loader.module import (
    compile_module,
    load_programs,
    maps_of,
    open_rings,
    prepare,
    raise_memlock,
    write_settings,
)
from deckwire.loader.symbols import hide_symbols
from deckwire.loader.targets import enter, resolve

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""<linux/capability.h>; CAP_SYS_ADMIN stands for the last two."""
CAP_SYS_ADMIN = 21

VEPA_PARENTS, JUMPS, XDP_PROGRAM = "vepa_parents", "jumps", "xdp_ingress"


def serve() -> None:
    """Serves the request that comes over the descriptor of the first argument.

    A second argument ``compile`` says that it will be one to load.
    """
    channel = socket.socket(fileno=int(sys.argv[1]))
    if "compile" in sys.argv[2:]:
        prepare()
    request, fds = handover.receive(channel)
    try:
        answer, results = _serve(request, fds)
    except LoaderError as error:
        answer, results = {"error": str(error), "passing": error.passing}, []
    handover.send(channel, answer, results)


def _serve(request: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
    netns = request["netns"]
    if netns is not None:
        path = netns if "/" in netns else f"/run/netns/{netns}"
        if request["do"] == "detach" and not os.path.exists(path):
            return {}, []
        enter(netns, path, passing=request.get("wait", False))
    if request["do"] == "detach":
        for ifindex in request["ifindexes"]:
            delete_filters(ifindex)
        return {}, []
    _check_capabilities(request)
    if request["do"] == "load":
        return _load(request)
    watched = request["watched"]
    targets = [one for one in resolve(request["interfaces"]) if one.ifindex not in watched]
    supply = iter(fds)
    programs = [Program(name, next(supply)) for name in request["programs"]]
    vepa_parents = Map(next(supply)) if request["vepa"] else None
    xdp = next((program for program in programs if program.name == XDP_PROGRAM), None)
    hooks = [program for program in programs if program is not xdp]
    attachments, results = attach(
        targets, hooks, vepa_parents, request["attach"], Assist(xdp, request["xdp"])
    )
    return {"attachments": attachments}, results


def _load(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    absent: dict[str, str] = {}
    targets = resolve(request["interfaces"], absent if request["wait"] else None)
    watch = rtnetlink.open_socket(rtnetlink.RTMGRP_LINK)
    raise_memlock()
    hide_symbols()
    kinds = dict.fromkeys((*request["programs"], *request["jumps"]), "SCHED_CLS")
    if request["xdp"] != "off":
        kinds[XDP_PROGRAM] = "XDP"
    module = compile_module(request)
    try:
        loaded = load_programs(module, kinds)
    except LoaderError:
        # Once more with the lines of the source, for the log.
        with contextlib.suppress(LoaderError):
            load_programs(compile_module(request, lines=True), kinds)
        raise
    maps = maps_of(module)
    for slot, name in enumerate(request["jumps"]):
        maps[JUMPS].update(slot.to_bytes(4, "little"), loaded[name].fd.to_bytes(4, "little"))
    if request["settings"]:
        write_settings(module, request["settings"])
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
        targets, attached, maps.get(VEPA_PARENTS), request["attach"], assist
    )
    answer = {
        "programs": list(programs),
        "maps": list(maps),
        "cpus": online,
        "ring_bytes": size,
        "attachments": attachments,
        "absent": absent,
        "headers": request["headers"],
    }
    fds = [program.fd for program in programs.values()]
    fds += [table.fd for table in maps.values()]
    return answer, [*fds, *rings, watch.detach(), *attachment_fds]


def _check_capabilities(request: dict[str, Any]) -> None:
    with open("/proc/self/status") as file:
        status = file.read()
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(effective, 16)
    wanted = ["CAP_NET_ADMIN"]
    if not held >> CAP_SYS_ADMIN & 1:
        wanted += ["CAP_BPF"] + ["CAP_PERFMON"] * (request["do"] == "load")
    missing = [name for name in wanted if not held >> CAPABILITIES[name] & 1]
    if missing:
        raise LoaderError(f"{' and '.join(missing)} missing: run as root or grant the capability")
