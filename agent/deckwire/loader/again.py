"""Attaching programs that are loaded to an interface that has come."""

from __future__ import annotations

from typing import Any

from deckwire.kernel.maps import Map
from deckwire.kernel.names import XDP_PROGRAM
from deckwire.kernel.programs import Program
from deckwire.loader.attachment import Assist, Filters, attach
from deckwire.loader.errors import Reply
from deckwire.loader.targets import resolve


def attach_again(request: dict[str, Any], fds: list[int], filters: Filters | None) -> Reply:
    """Attaches in the calling thread's network namespace.

    Args:
        request: as loading.reattach() makes it.
        fds: those of its programs, then that of the map for targets in VEPA mode, if it has one.
        filters: None if the calling process may not make clsact filters.

    Returns:
        The reply and its descriptors. An interface whose target is attached already is left out.

    Raises:
        LoaderError: with one line for the user.
    """
    watched = request["watched"]
    # Nobody who attaches again may enter other namespaces by then.
    resolution = resolve(request["interfaces"], elsewhere=False)
    targets = [one for one in resolution.targets if one.ifindex not in watched]
    supply = iter(fds)
    programs = [Program(name, next(supply)) for name in request["programs"]]
    vepa_parents = Map(next(supply)) if request["vepa"] else None
    xdp = next((program for program in programs if program.name == XDP_PROGRAM), None)
    hooks = [program for program in programs if program is not xdp]
    attachments, results = attach(
        targets, hooks, vepa_parents, request["attach"], Assist(xdp, request["xdp"]), filters
    )
    return {"attachments": attachments}, results
