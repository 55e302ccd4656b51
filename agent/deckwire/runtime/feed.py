"""Feeds the frames of a capture to the kernel programs, on the clock of the capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from deckwire.abi.samples import FragmentSample
from deckwire.captures import (
    CaptureFile,
    Copies,
    Frame,
    addresses,
    ethernet,
    may_be_fragment,
    split_segments,
)
from deckwire.clock import CaptureClock
from deckwire.kernel.loading import Loaded
from deckwire.limits import CAPTURE_AHEAD_NS, CAPTURE_REORDER_NS, TEST_RUN_BYTES
from deckwire.pipeline.dispatch import Pipeline
from deckwire.resilience.containment import Containment, Where
from deckwire.runtime.counters import Intake
from deckwire.runtime.fragments import Fragments

FRAME_BYTES = TEST_RUN_BYTES
SHORTEST_IPV4, SHORTEST_IPV6 = 34, 54
"""A test run refuses frames that end inside the IP header."""
RING_BYTES = 4_194_304
DRAIN_FRAMES = 512
"""Frames between two drains. One frame makes at most 4.3 KB of samples, so no ring fills."""
SWEEP_NS = 1_000_000_000
"""Capture time between two sweeps. Idle connections end with this precision."""


class Jump(NamedTuple):
    """A frame of a decky whose time stamp does not continue those before it."""

    frame: int
    """Its number in the capture, from 1."""
    ahead_ns: int
    """Its stamp minus the latest stamp before it; negative if it is earlier."""


class _Decky(NamedTuple):
    """A frame to or from a decky."""

    number: int
    stamp_ns: int
    data: bytes
    """With an Ethernet header."""


class Replay:
    """Feeds frames to the kernel side and its samples to the pipeline.

    Time comes from the frames of deckies. A frame stamped far from those before it waits for the
    next one. If the next one continues the times before, the stamp was wrong. Otherwise, a stamp
    ahead ends a silence of all deckies, and an earlier stamp shows that the clock was set.
    """

    def __init__(
        self,
        loaded: Loaded,
        pipeline: Pipeline,
        intake: Intake,
        fragments: Fragments,
        clock: CaptureClock,
        containment: Containment,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Frames by their fate, and jumps of their time stamps."""
        self.first_jump: Jump | None = None
        """The first jump of the capture that was replayed last."""
        self._intake = intake
        self._fragments = fragments
        self._program = loaded.programs["tc_ingress"]
        self._rings = loaded.rings
        self._pipeline = pipeline
        self._clock = clock
        self._containment = containment
        self._copies = Copies()
        self._number = 0
        self._held: _Decky | None = None
        """A frame stamped far from those before it, which waits for the next one."""
        self._undrained = 0
        self._swept_ns: int | None = None

    def run(self, capture: CaptureFile, progress: Callable[[int], None]) -> None:
        """Replay a capture; `progress` gets the position in its file now and then.

        Raises:
            CaptureError: the capture breaks off; all that was readable has been replayed.
            OSError: the kernel refused a test run for another reason than the frame's length.
        """
        self.run_frames(capture, lambda: progress(capture.position))

    def run_frames(
        self, frames: Iterable[Frame], drained: Callable[[], None] = lambda: None
    ) -> None:
        """Replay frames; `drained` is called now and then. Raises as `run` and `frames` do."""
        self._number, self.first_jump = 0, None
        try:
            for frame in frames:
                self._number += 1
                self._feed(frame)
                if self._undrained >= DRAIN_FRAMES:
                    self._drain()
                    drained()
            self._release_held()
        finally:
            self._drain()
            drained()

    def _feed(self, frame: Frame) -> None:
        data = ethernet(frame)
        if data is None:
            self.counts["link_type_unsupported"] += 1
            return
        if not self._is_deckys(data):
            self._clock.pass_by(frame.time_ns)
            self._run(data, self._clock.now_ns())
            return
        if self._copies.is_copy(frame):
            self.counts["frames_copied"] += 1
            return
        if len(frame.data) < frame.wire_len:
            self.counts["frames_incomplete"] += 1
        goes_back = self._release_held(frame.time_ns)
        decky = _Decky(self._number, frame.time_ns, data)
        if goes_back:
            self._jump(decky)
        elif self._goes_on(frame.time_ns):
            self._go_on(decky)
        else:
            self._held = decky

    def _is_deckys(self, data: bytes) -> bool:
        ends = addresses(data)
        registry = self._pipeline.registry
        return ends is not None and (ends[0] in registry or ends[1] in registry)

    def _goes_on(self, stamp_ns: int) -> bool:
        """Whether the stamp continues those before it."""
        return self._clock.in_order(stamp_ns) and self._clock.ahead_ns(stamp_ns) <= CAPTURE_AHEAD_NS

    def _release_held(self, next_ns: int | None = None) -> bool:
        """Replay the frame that waits; `next_ns` is the stamp of the next one, None at the end.

        Returns True if the next one continues the times before, so that this stamp was wrong.
        """
        held, self._held = self._held, None
        if held is None:
            return False
        if next_ns is None:
            # Only wrong stamps before it would make this stamp doubtful.
            believed = self.first_jump is None
        else:
            believed = next_ns >= held.stamp_ns - CAPTURE_REORDER_NS
        if believed and self._clock.in_order(held.stamp_ns):
            self._go_on(held)
            return False
        goes_back = next_ns is not None and self._goes_on(next_ns)
        self._jump(held)
        return goes_back

    def _go_on(self, decky: _Decky) -> None:
        kernel_ns = self._clock.advance(decky.stamp_ns)
        now_ns = self._clock.now_ns()
        if self._swept_ns is None:
            self._swept_ns = now_ns
        elif now_ns - self._swept_ns >= SWEEP_NS:
            self._drain()
            with self._containment.during(Where.SWEEP):
                self._pipeline.sweep(now_ns)
            with self._containment.during(Where.DUE):
                self._pipeline.emit_due(now_ns)
            self._swept_ns = now_ns
        self._run(decky.data, kernel_ns)

    def _jump(self, decky: _Decky) -> None:
        jump = Jump(decky.number, self._clock.ahead_ns(decky.stamp_ns))
        self.first_jump = self.first_jump or jump
        self.counts["time_jumps_forward" if jump.ahead_ns > 0 else "time_jumps_back"] += 1
        self._run(decky.data, self._clock.jump(decky.stamp_ns))

    def _run(self, data: bytes, kernel_ns: int) -> None:
        for piece in self._runnable(data):
            self._program.test_run(piece, tstamp=kernel_ns)
            self._undrained += 1
        if may_be_fragment(data):
            # The packet that it completes comes before the next frame.
            self._drain()

    def _runnable(self, data: bytes) -> Iterator[bytes]:
        """Cut a frame into pieces that a test run accepts."""
        pieces = split_segments(data, FRAME_BYTES)
        if len(pieces) == 1 and len(pieces[0]) < len(data):
            self.counts["frames_cut"] += 1
        elif len(pieces) > 1:
            self.counts["frames_split"] += 1
        for piece in pieces:
            if len(piece) < (SHORTEST_IPV6 if piece[12:14] == b"\x86\xdd" else SHORTEST_IPV4):
                self.counts["frames_too_short"] += 1
            else:
                self.counts["frames_run"] += 1
                yield piece

    def _drain(self) -> None:
        self._undrained = 0
        while self._drain_once():
            pass

    def _drain_once(self) -> bool:
        """Take the samples in the rings; return whether some of them made others."""
        more = False
        for _, data in self._rings.drain():
            try:
                sample = self._intake.decode(data)
                if isinstance(sample, FragmentSample):
                    more |= self._fragments.take(sample)
                elif sample is not None:
                    self._pipeline.take(sample)
            except Exception as error:
                self._containment.failed(Where.SAMPLE, error)
        return more
