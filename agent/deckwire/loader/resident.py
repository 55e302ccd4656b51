"""The helper's main function: it attaches for an agent that may not, in a process of its own.

It stays where the kernel has no TCX, and compiles nothing. It has the programs and the interfaces
that it was started with, and takes no others. So an agent that somebody else controls can attach
our own programs to these interfaces and detach them, and do nothing else with it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from functools import partial
from typing import Any

from deckwire.kernel import capabilities, handover, syscall_filter
from deckwire.kernel.capabilities import Capability
from deckwire.kernel.user import User
from deckwire.loader.again import attach_again
from deckwire.loader.attachment import Filters
from deckwire.loader.errors import LoaderError, Reply, answered
from deckwire.loader.filters import add_filters, delete_filters
from deckwire.loader.targets import enter_namespace

_FILTERS = Filters(add_filters, delete_filters)


def serve() -> None:
    """Serves the requests that come over the descriptor in the first argument, until it is closed.

    The first message is its order. The others may come from an intruder.
    """
    channel = socket.socket(fileno=int(sys.argv[1]))
    order, fds = handover.receive(channel)
    helper = Helper(order, fds)
    reply, _ = answered("start", helper.settle)
    handover.send(channel, reply, [])
    while "error" not in reply:
        try:
            request, unwanted = handover.receive(channel)
        except handover.HandoverError:
            # The agent has ended. Its filters do nothing without it.
            return
        for fd in unwanted:
            os.close(fd)
        if not _served(helper, request, channel):
            return


def _served(helper: Helper, request: dict[str, Any], channel: socket.socket) -> bool:
    """Serves a request in a process of its own; False if that process has failed.

    Making filters takes 20 MB that a process never gives back. What is opened goes with it too: the
    lock and the links belong to the agent.
    """
    ended, ending = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer, results = answered("attach", partial(helper.serve, request))
            handover.send(channel, answer, results)
            os.write(ending, json.dumps(sorted(helper.attached)).encode())
        finally:
            os._exit(0)
    os.close(ending)
    with open(ended, "rb") as file:
        attached = file.read()
    os.waitpid(child, 0)
    if attached:
        helper.attached = set(json.loads(attached))
    return bool(attached)


class Helper:
    """What the order allows."""

    def __init__(self, order: dict[str, Any], fds: list[int]) -> None:
        """`order` is as kernel/helper_process.py makes it; `fds` are those of its programs."""
        self._order = order
        self._fds = fds
        self._interfaces = frozenset(order["interfaces"])
        self.attached = set(order["attached"])
        """The interfaces with our filters, by ifindex."""

    def settle(self) -> Reply:
        """Enters the namespace, becomes the user, and keeps the needed capabilities alone."""
        if self._order["netns"] is not None:
            enter_namespace(self._order["netns"])
        kept = {Capability(number) for number in self._order["kept"]}
        # A change of user takes the right to do this.
        capabilities.bound(kept)
        if self._order["user"] is not None:
            User(**self._order["user"]).become()
        capabilities.give_up(kept)
        syscall_filter.deny()
        return {}, []

    def serve(self, request: dict[str, Any]) -> Reply:
        """One request of the agent. Raises LoaderError, also for one that the order excludes."""
        match request:
            case {"do": "attach", "interfaces": [str(name)], "watched": list(watched)}:
                if name in self._interfaces:
                    return self._attach(name, watched)
            case {"do": "detach", "ifindexes": list(ifindexes)}:
                for ifindex in self.attached.intersection(
                    one for one in ifindexes if isinstance(one, int)
                ):
                    delete_filters(ifindex)
                    self.attached.discard(ifindex)
                return {}, []
        raise LoaderError("the helper does not serve this request: it is for other interfaces")

    def _attach(self, name: str, watched: list[object]) -> Reply:
        reply, results = attach_again(
            {**self._order, "interfaces": [name], "watched": watched}, self._fds, _FILTERS
        )
        self.attached.update(
            entry["ifindex"] for entry in reply["attachments"] if entry["method"] == "clsact"
        )
        return reply, results
