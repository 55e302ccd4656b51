"""The kernel side as the agent gets it: the loader is asked, and what it made is taken over.

All of it lives in the file descriptors that the loader handed over, and ends with them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from errno import ENOMEM
from pathlib import Path
from typing import Any, Literal, Protocol

from deckwire.kernel.link_watch import LinkWatch
from deckwire.kernel.loader_process import Loader, LoadError, start_loader
from deckwire.kernel.maps import Map
from deckwire.kernel.names import (
    JUMPS,
    PROGRAMS,
    REASSEMBLED_PROGRAM,
    VEPA_PARENTS_MAP,
    XDP_PROGRAM,
)
from deckwire.kernel.programs import Program
from deckwire.kernel.rings import Rings
from deckwire.limits import RING_BYTES

DETACH_SECONDS = 15.0
"""Longest time for all attempts of detach(): systemd waits 20 s for the agent's end."""
DETACH_ATTEMPTS = 2

Method = Literal["auto", "tcx", "clsact"]
"""How to attach: by TCX if the kernel has it, else by clsact filters; or by one of the two only."""


Reply = tuple[dict[str, Any], list[int]]
"""The body of a message, and its descriptors. The caller owns those of a reply."""


class Attacher(Protocol):
    """Serves requests to attach and detach."""

    def ask(self, body: dict[str, Any], fds: list[int], seconds: float | None = None) -> Reply:
        """Serve one request within `seconds`. Raises LoadError."""

    def close(self) -> None:
        """End what serves them."""


class NewLoaders:
    """Has a new loader serve each request. It has the privileges of this process."""

    def ask(self, body: dict[str, Any], fds: list[int], seconds: float | None = None) -> Reply:
        """Serve one request within `seconds`. Raises LoadError."""
        with start_loader(seconds) as loader:
            return loader.ask(body, fds)

    def close(self) -> None:
        """Nothing is left to end."""


def bpf_directory() -> Path:
    """The directory of the C sources, in the package, installed or not."""
    return Path(__file__).parent.parent / "bpf"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to load and where to attach it."""

    interfaces: tuple[str, ...] = ()
    """Names as the user gave them; a macvlan stands for its parent. Empty: nothing is attached."""
    netns: str | None = None
    """Network namespace of the interfaces: a name in /run/netns or a path; None is ours."""
    attach: Method = "auto"
    xdp: str = "off"
    """``off``, or note SYNs before TC does: just before it (``generic``), or at the driver
    (``native``)."""
    wait: bool = False
    """An interface that does not exist goes into Loaded.absent, and is no error."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Fields of struct settings by name."""
    table_sizes: Mapping[str, int] = field(default_factory=dict)
    """Macros of bpf/limits.h to override."""
    replay_clock: bool = False
    """Take the time from skb->tstamp. For test runs only: in live frames the stack sets it."""
    headers: Literal["shim", "headers"] = "shim"
    """Compile with bpf/shim, or with the kernel headers that BCC finds."""
    ring_bytes: int = RING_BYTES
    """Wanted size of each CPU's ring; rings.ring_bytes() bounds it."""
    source: Path = field(default_factory=lambda: bpf_directory() / "capture.c")
    """The C file with the programs and the map `samples`."""
    programs: tuple[str, ...] = (*PROGRAMS, REASSEMBLED_PROGRAM)
    """Its functions to load. Those in PROGRAMS are attached."""
    jumps: tuple[str, ...] = JUMPS
    """Its functions for the slots of the map `jumps`."""

    def body(self) -> dict[str, Any]:
        """The request as the loader reads it."""
        paths = {"source": str(self.source.absolute()), "bpf": str(bpf_directory())}
        return asdict(self) | paths


@dataclass(slots=True)
class Attachment:
    """The programs on one interface. It owns the descriptors that keep them there."""

    interface: str
    """As the user gave it."""
    target: str
    """The interface with the programs: the same, or a macvlan's parent."""
    ifindex: int
    """Of the target."""
    method: str
    """``tcx`` or ``clsact``."""
    xdp: str
    """``off``, ``generic`` or ``native``: ``off`` also where XDP was requested and refused."""
    vepa: bool
    """A macvlan in VEPA mode was found on the target."""
    notes: tuple[str, ...]
    """Lines for the user, for instance ``macvlan deck0 -> parent eth0``."""
    fds: tuple[int, ...]
    """The socket that keeps a second agent off the target, then TCX and XDP links."""

    def close(self) -> None:
        """Detaches links and lets another agent attach. clsact filters stay until detach()."""
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


@dataclass(slots=True)
class Loaded:
    """The running kernel side. It owns every descriptor in it."""

    maps: dict[str, Map]
    programs: dict[str, Program]
    rings: Rings
    attachments: list[Attachment]
    absent: Mapping[str, str]
    """The interfaces of the request that do not exist, each with a line for the user."""
    watch: LinkWatch
    """Reports interfaces of the namespace that come and go."""
    netns: str | None
    attach: Method
    xdp: str
    """Both as requested, for attaching again."""
    headers: str
    """``shim`` or ``headers``: what it was compiled with."""
    kept: bool
    """Nothing was compiled: the loader had a kept object for the request."""
    load_ms: int
    """Milliseconds from the loader's start to its reply."""
    attacher: Attacher = field(default_factory=NewLoaders)
    """It attaches and detaches from now on."""

    def close(self) -> None:
        """Frees everything, and so detaches links. clsact filters stay until detach()."""
        for attachment in self.attachments:
            attachment.close()
        self.attacher.close()
        self.rings.close()
        self.watch.close()
        for program in self.programs.values():
            program.close()
        for table in self.maps.values():
            table.close()


def load(request: LoadRequest) -> Loaded:
    """Compiles, loads and attaches.

    Raises:
        LoadError: with one line for the user.
    """
    with start_loader(compiles=True) as loader:
        begin(loader, request)
        return finish(loader, request)


def begin(loader: Loader, request: LoadRequest) -> None:
    """Sends the request of load(), and returns at once. finish() returns the result.

    Raises:
        LoadError: the loader has ended, or the request is too long.
    """
    loader.send({"do": "load", **request.body()}, [])


def finish(loader: Loader, request: LoadRequest) -> Loaded:
    """Waits for the result of begin().

    Raises:
        LoadError: with one line for the user.
    """
    reply, fds = loader.receive()
    load_ms = (time.monotonic_ns() - loader.started_ns) // 1_000_000
    return _loaded(request, reply, fds, load_ms)


def _loaded(request: LoadRequest, reply: dict[str, Any], fds: list[int], load_ms: int) -> Loaded:
    supply = iter(fds)
    programs = {name: Program(name, next(supply)) for name in reply["programs"]}
    maps = {name: Map(next(supply)) for name in reply["maps"]}
    ring_fds = [next(supply) for _ in reply["cpus"]]
    try:
        rings = Rings(ring_fds, reply["ring_bytes"], reply["cpus"])
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise LoadError(
            f"{len(ring_fds)} perf rings of {reply['ring_bytes'] // 1024} KB cannot be mapped: "
            f"{error.strerror}; raise kernel.perf_event_mlock_kb or grant CAP_IPC_LOCK",
            passing=error.errno == ENOMEM,
        ) from error
    watch = LinkWatch(next(supply))
    attachments = [_attachment(entry, supply) for entry in reply["attachments"]]
    return Loaded(
        maps,
        programs,
        rings,
        attachments,
        reply["absent"],
        watch,
        request.netns,
        request.attach,
        request.xdp,
        reply["headers"],
        reply["kept"],
        load_ms,
    )


def reattach(loaded: Loaded, interface: str) -> Attachment | None:
    """Attaches the loaded programs to an interface that is back, after closing its old attachment.

    Returns:
        The attachment, which `loaded` owns; None for a macvlan whose parent has one already.

    Raises:
        LoadError: with one line for the user. The old attachment is closed.
    """
    old = [entry for entry in loaded.attachments if entry.interface == interface]
    for entry in old:
        entry.close()
        loaded.attachments.remove(entry)
    body, fds = attach_request(loaded, [interface])
    reply, received = loaded.attacher.ask(body, fds)
    if not reply["attachments"]:
        return None
    attachment = _attachment(reply["attachments"][0], iter(received))
    loaded.attachments.append(attachment)
    return attachment


def attach_request(loaded: Loaded, interfaces: list[str]) -> Reply:
    """The request to attach the loaded programs to interfaces, with its descriptors."""
    names = PROGRAMS if loaded.xdp == "off" else (*PROGRAMS, XDP_PROGRAM)
    programs = [loaded.programs[name] for name in names]
    body = {
        "do": "attach",
        "interfaces": interfaces,
        "watched": [entry.ifindex for entry in loaded.attachments],
        "netns": loaded.netns,
        "attach": loaded.attach,
        "xdp": loaded.xdp,
        "programs": [program.name for program in programs],
        "vepa": VEPA_PARENTS_MAP in loaded.maps,
    }
    fds = [program.fd for program in programs]
    if VEPA_PARENTS_MAP in loaded.maps:
        fds.append(loaded.maps[VEPA_PARENTS_MAP].fd)
    return body, fds


def detach(loaded: Loaded) -> None:
    """Detaches the programs from every interface. The maps stay readable.

    Raises:
        LoadError: DETACH_ATTEMPTS attempts to delete clsact filters failed. Links are detached.
    """
    filtered = [entry for entry in loaded.attachments if entry.method == "clsact"]
    try:
        if filtered:
            _delete_filters(loaded, filtered)
    finally:
        for entry in loaded.attachments:
            entry.close()
        loaded.attachments.clear()


def _delete_filters(loaded: Loaded, attachments: list[Attachment]) -> None:
    netns = loaded.netns
    body = {"do": "detach", "netns": netns, "ifindexes": [entry.ifindex for entry in attachments]}
    deadline = time.monotonic() + DETACH_SECONDS
    for _ in range(DETACH_ATTEMPTS):
        # A loader that was killed or found no memory leaves time for another attempt. One that
        # hung does not.
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            break
        try:
            loaded.attacher.ask(body, [], seconds)
        except (LoadError, OSError) as error:
            failure = error
        else:
            return
    where = ", ".join(entry.target for entry in attachments)
    raise LoadError(
        f"clsact filters of Deckwire stay on {where}: {failure}; they do not affect the traffic, "
        "and the next start replaces them"
    ) from failure


def _attachment(entry: dict[str, Any], supply: Iterator[int]) -> Attachment:
    lock, *links = (next(supply) for _ in range(entry["fds"]))
    # The kernel reports the process that called listen() last. A second agent is to name ours.
    with socket.socket(fileno=os.dup(lock)) as listener:
        listener.listen()
    return Attachment(
        entry["interface"],
        entry["target"],
        entry["ifindex"],
        entry["method"],
        entry["xdp"],
        entry["vepa"],
        tuple(entry["notes"]),
        (lock, *links),
    )
