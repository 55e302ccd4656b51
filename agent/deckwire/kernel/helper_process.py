"""The helper as the agent sees it: a process that attaches for an agent without privileges.

It is deckwire/loader/resident.py, and it ends when the agent ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from deckwire.kernel import handover
from deckwire.kernel.capabilities import Capability
from deckwire.kernel.loader_process import LOADER_SECONDS, LoadError, spawn
from deckwire.kernel.loading import Loaded, Reply, attach_request
from deckwire.kernel.user import User

_PROGRAM = "from deckwire.loader.resident import serve; serve()"
_END_SECONDS = 2.0
"""Longest wait for its end, after that of its channel."""


class HelperProcess:
    """Serves requests to attach and detach: an Attacher."""

    def __init__(self, loaded: Loaded, user: User | None, kept: Collection[Capability]) -> None:
        """Start it for the interfaces of `loaded`, and wait until it has given up its privileges.

        Args:
            loaded: its programs, and its namespace.
            user: whom it becomes.
            kept: its capabilities from then on.

        Raises:
            LoadError: with one line for the user.
            OSError: it could not be started.
        """
        names = [one.interface for one in loaded.attachments]
        request, fds = attach_request(loaded, [*names, *loaded.absent])
        order = request | {
            "attached": [one.ifindex for one in loaded.attachments if one.method == "clsact"],
            "user": None if user is None else asdict(user),
            "kept": sorted(kept),
        }
        self._channel, theirs = handover.pair()
        with theirs:
            self._process = spawn(_PROGRAM, theirs, subprocess.DEVNULL)
        try:
            self._exchange(order, fds, LOADER_SECONDS)
        except BaseException:
            self.close()
            raise

    def ask(self, body: dict[str, Any], _fds: list[int], seconds: float | None = None) -> Reply:
        """Serve one request. The helper has the programs, so it gets no descriptors.

        Raises:
            LoadError: the helper refused, has ended, or took too long. Then it is ended.
        """
        return self._exchange(body, [], LOADER_SECONDS if seconds is None else seconds)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _exchange(self, body: dict[str, Any], fds: list[int], seconds: float) -> Reply:
        try:
            self._channel.settimeout(max(seconds, 0.001))
            handover.send(self._channel, body, fds)
            reply, received = handover.receive(self._channel)
        except (handover.HandoverError, OSError) as error:
            # A late reply would be taken for that of the next request.
            self._process.kill()
            raise LoadError(
                f"the helper that attaches has ended ({error}); restart Deckwire", passing=True
            ) from error
        if "error" in reply:
            raise LoadError(reply["error"], passing=reply["passing"])
        return reply, received
