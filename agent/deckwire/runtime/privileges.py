"""Gives up what the agent needs for its start alone: its capabilities, and perhaps its user.

What can be done without them depends on the kernel. So it is tried, before they are gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from deckwire.kernel import capabilities, syscall_filter
from deckwire.kernel.capabilities import FILES, Capability
from deckwire.kernel.helper_process import HelperProcess
from deckwire.kernel.loading import Loaded
from deckwire.kernel.maps import Map
from deckwire.kernel.names import COUNTERS_MAP, INGRESS, REASSEMBLED_PROGRAM
from deckwire.kernel.namespace_thread import NamespaceThread
from deckwire.kernel.user import User
from deckwire.runtime.attaching import AttachingHere


def give_up(loaded: Loaded, user: User | None) -> None:
    """Become `user`, and lose all capabilities and system calls that the capture does not need.

    Call it before any thread is started, and after all that needs them. Without a user, root stays
    root and keeps what it needs for files.

    Raises:
        LoadError: the helper that attaches cannot be started.
        OSError: the kernel refuses.
    """
    needs = _try(loaded)
    kept = set(needs.kept)
    place = None
    if needs.can_attach:
        place = None if loaded.netns is None else NamespaceThread(loaded.netns)
        loaded.attacher = AttachingHere(place)
    else:
        loaded.attacher = HelperProcess(loaded, user, {*kept, Capability.CAP_NET_ADMIN})
    # A change of user takes the right to do this.
    capabilities.bound((*kept, *FILES) if user is None else kept)
    if place is not None:
        place.run(capabilities.bound)
    if user is not None:
        user.become()
    elif not os.geteuid():
        kept |= set(FILES) & capabilities.held()
    if place is not None:
        place.run(capabilities.give_up)
    capabilities.give_up(kept)
    syscall_filter.deny()


@dataclass(frozen=True, slots=True)
class _Needs:
    """What the capture needs on this kernel."""

    kept: frozenset[Capability]
    """Capabilities for the maps and the test runs."""
    can_attach: bool
    """It can attach and detach without capabilities."""


def _try(loaded: Loaded) -> _Needs:
    """Try without capabilities what the capture does after its start."""
    with capabilities.powerless():
        works = _may_read(loaded.maps[COUNTERS_MAP])
        works &= loaded.programs[REASSEMBLED_PROGRAM].may_test_run()
        links = loaded.programs[INGRESS].may_link()
    return _Needs(
        kept=frozenset() if works else frozenset({Capability.CAP_BPF}),
        can_attach=links and loaded.attach != "clsact",
    )


def _may_read(table: Map) -> bool:
    try:
        table.lookup(bytes(table.key_size))
    except PermissionError:
        return False
    return True
