"""Asking the loader for the kernel side, and taking over what it made.

What was loaded lives on in the file descriptors that the loader handed over, and dies with them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from errno import ENOMEM
from pathlib import Path
from typing import Any, Literal

from deckwire.kernel.link_watch import LinkWatch
from deckwire.kernel.loader_process import Loader, LoadError, start_loader
from deckwire.kernel.maps import Map
from deckwire.kernel.programs import Program
from deckwire.kernel.rings import Rings
from deckwire.limits import RING_BYTES

DETACH_SECONDS = 15.0
"""Longest for all that detach() tries: systemd waits 20 s for the agent's end."""
DETACH_ATTEMPTS = 2

PROGRAMS = ("tc_ingress", "tc_egress")
JUMPS = ("decky_packet", "decky_syn", "decky_synack", "decky_handshake", "decky_hello")
"""Programs behind the tail calls of the attached ones, in the order of enum jump in bpf/maps.h."""
XDP_PROGRAM = "xdp_ingress"
VEPA_PARENTS = "vepa_parents"
"""The map of the parents whose lateral frames pass both hooks."""

Way = Literal["auto", "tcx", "clsact"]


def bpf_directory() -> Path:
    """Where the C sources stand: in the package, installed or not."""
    return Path(__file__).parent.parent / "bpf"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What to load and where to attach it."""

    interfaces: tuple[str, ...] = ()
    """Names as the user gave them; a macvlan stands for its parent. None: nothing is attached."""
    netns: str | None = None
    """Network namespace of the interfaces: a name under /run/netns or a path; None is ours."""
    attach: Way = "auto"
    """How: TCX where the kernel has it, else clsact filters; or one of them without a choice."""
    xdp: str = "off"
    """``off``, ``generic`` or ``native``: note SYNs before TC, just before it or at the driver."""
    wait: bool = False
    """Interfaces that do not exist go into Loaded.absent, and are no error."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """Fields of struct settings by name."""
    table_sizes: Mapping[str, int] = field(default_factory=dict)
    """Macros of bpf/limits.h to override."""
    replay_clock: bool = False
    """Take skb->tstamp for the time: for test runs only, live frames carry one of the stack."""
    headers: Literal["shim", "headers"] = "shim"
    """Compile with bpf/shim, or with the kernel's headers as BCC finds them."""
    ring_bytes: int = RING_BYTES
    """Wanted size of each CPU's ring."""
    source: Path = field(default_factory=lambda: bpf_directory() / "capture.c")
    """The C file that holds the programs and the map `samples`."""
    programs: tuple[str, ...] = PROGRAMS
    """Its functions to load; attached are tc_ingress and tc_egress."""
    jumps: tuple[str, ...] = JUMPS
    """Its functions for the slots of the map `jumps`."""

    def body(self) -> dict[str, Any]:
        """As the loader is told it."""
        paths = {"source": str(self.source.absolute()), "bpf": str(bpf_directory())}
        return asdict(self) | paths


@dataclass(slots=True)
class Attachment:
    """The programs on one interface; owns the descriptors that keep them there."""

    interface: str
    """As the user gave it."""
    target: str
    """Where the programs are: the same, or a macvlan's parent."""
    ifindex: int
    way: str
    """``tcx`` or ``clsact``."""
    xdp: str
    """``off``, ``generic`` or ``native``: what became of the wish."""
    vepa: bool
    """A macvlan on the target is in VEPA mode, as far as its namespace can be seen."""
    notes: tuple[str, ...]
    """Lines for the user, for instance ``macvlan deck0 -> parent eth0``."""
    fds: tuple[int, ...]
    """TCX links, and the socket that keeps a second agent off the target."""

    def close(self) -> None:
        """Detaches TCX links and lets another agent in; clsact filters need detach()."""
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


@dataclass(slots=True)
class Loaded:
    """The running kernel side; owns every descriptor in it."""

    maps: dict[str, Map]
    programs: dict[str, Program]
    rings: Rings
    attachments: list[Attachment]
    absent: Mapping[str, str]
    """The interfaces of the request that were not there, each with a line for the user."""
    watch: LinkWatch
    """Interfaces of the namespace that come and go."""
    netns: str | None
    xdp: str
    """As requested: for attaching again."""
    headers: str
    """``shim`` or ``headers``: what it was compiled with."""
    load_ms: int
    """Milliseconds from the loader's start to its answer."""

    def close(self) -> None:
        """Frees everything: programs attached by TCX are gone with it. Not clsact filters."""
        for attachment in self.attachments:
            attachment.close()
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
    """Asks for what load() does, and returns at once; finish() tells what came of it.

    Raises:
        LoadError: the loader is gone.
    """
    loader.emit({"do": "load", **request.body()}, [])


def finish(loader: Loader, request: LoadRequest) -> Loaded:
    """Waits for what begin() asked for.

    Raises:
        LoadError: with one line for the user.
    """
    answer, fds = loader.hear()
    load_ms = (time.monotonic_ns() - loader.started_ns) // 1_000_000
    return _loaded(request, answer, fds, load_ms)


def _loaded(request: LoadRequest, answer: dict[str, Any], fds: list[int], load_ms: int) -> Loaded:
    supply = iter(fds)
    programs = {name: Program(name, next(supply)) for name in answer["programs"]}
    maps = {name: Map(next(supply)) for name in answer["maps"]}
    ring_fds = [next(supply) for _ in answer["cpus"]]
    try:
        rings = Rings(ring_fds, answer["ring_bytes"], answer["cpus"])
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise LoadError(
            f"{len(ring_fds)} perf rings of {answer['ring_bytes'] // 1024} KB cannot be mapped "
            f"({error.strerror}): raise kernel.perf_event_mlock_kb or grant CAP_IPC_LOCK",
            passing=error.errno == ENOMEM,
        ) from error
    watch = LinkWatch(next(supply))
    attachments = [_attachment(entry, supply) for entry in answer["attachments"]]
    return Loaded(
        maps,
        programs,
        rings,
        attachments,
        answer["absent"],
        watch,
        request.netns,
        request.xdp,
        answer["headers"],
        load_ms,
    )


def reattach(loaded: Loaded, interface: str, attach: Way = "auto") -> Attachment | None:
    """Attaches the loaded programs to an interface that is back, in place of its old attachment.

    Returns:
        The attachment, which `loaded` owns; None for a macvlan whose parent has one already.

    Raises:
        LoadError: with one line for the user; the old attachment is closed all the same.
    """
    old = [entry for entry in loaded.attachments if entry.interface == interface]
    for entry in old:
        entry.close()
        loaded.attachments.remove(entry)
    names = PROGRAMS if loaded.xdp == "off" else (*PROGRAMS, XDP_PROGRAM)
    programs = [loaded.programs[name] for name in names]
    body = {
        "do": "attach",
        "interfaces": [interface],
        "watched": [entry.ifindex for entry in loaded.attachments],
        "netns": loaded.netns,
        "attach": attach,
        "xdp": loaded.xdp,
        "programs": [program.name for program in programs],
        "vepa": VEPA_PARENTS in loaded.maps,
    }
    fds = [program.fd for program in programs]
    if VEPA_PARENTS in loaded.maps:
        fds.append(loaded.maps[VEPA_PARENTS].fd)
    with start_loader() as loader:
        answer, received = loader.ask(body, fds)
    if not answer["attachments"]:
        return None
    attachment = _attachment(answer["attachments"][0], iter(received))
    loaded.attachments.append(attachment)
    return attachment


def detach(loaded: Loaded) -> None:
    """Takes the programs off every interface; the maps stay readable.

    Raises:
        LoadError: the clsact filters could not be deleted, not at the second attempt either; TCX
            links are gone all the same.
    """
    filtered = [entry for entry in loaded.attachments if entry.way == "clsact"]
    try:
        if filtered:
            _delete_filters(loaded.netns, filtered)
    finally:
        for entry in loaded.attachments:
            entry.close()
        loaded.attachments.clear()


def _delete_filters(netns: str | None, attachments: list[Attachment]) -> None:
    body = {"do": "detach", "netns": netns, "ifindexes": [entry.ifindex for entry in attachments]}
    deadline = time.monotonic() + DETACH_SECONDS
    for _ in range(DETACH_ATTEMPTS):
        # One that was killed or found no memory leaves time for another, one that hung does not.
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            break
        try:
            with start_loader(seconds) as loader:
                loader.ask(body, [])
        except (LoadError, OSError) as error:
            failure = error
        else:
            return
    where = ", ".join(entry.target for entry in attachments)
    raise LoadError(
        f"clsact filters of Deckwire stay on {where}, without effect on the traffic ({failure}): "
        "the next start replaces them"
    ) from failure


def _attachment(entry: dict[str, Any], supply: Iterator[int]) -> Attachment:
    lock, *links = (next(supply) for _ in range(entry["fds"]))
    # So that a second agent's loader is told our process id, not that of our loader.
    with socket.socket(fileno=os.dup(lock)) as listener:
        listener.listen()
    return Attachment(
        entry["interface"],
        entry["target"],
        entry["ifindex"],
        entry["way"],
        entry["xdp"],
        entry["vepa"],
        tuple(entry["notes"]),
        (lock, *links),
    )
