"""A capture's frames through the programs that watch live traffic, on the capture's own clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from deckwire.captures import CaptureFile, Frame, ethernet, split_segments
from deckwire.clock import CaptureClock
from deckwire.containment import Containment, Where
from deckwire.kernel.loading import Loaded
from deckwire.pipeline import Pipeline
from deckwire.stats import Intake

FRAME_BYTES = 3_400
"""Longest frame for a test run on every kernel; larger TCP packets are cut into segments."""
SHORTEST_IPV4, SHORTEST_IPV6 = 34, 54
"""A test run refuses frames that end inside the IP header."""
RING_BYTES = 4_194_304
DRAIN_FRAMES = 512
"""Frames between two drains: one makes at most 4.3 KB of samples, so the ring never fills."""
SWEEP_NS = 1_000_000_000
"""Capture time between two sweeps: idle connections end with this precision."""


class Replay:
    """Feeds frames to the kernel side and its samples to the pipeline."""

    def __init__(
        self,
        loaded: Loaded,
        pipeline: Pipeline,
        intake: Intake,
        clock: CaptureClock,
        containment: Containment,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Frames by what became of them."""
        self._intake = intake
        self._program = loaded.programs["tc_ingress"]
        self._rings = loaded.rings
        self._pipeline = pipeline
        self._clock = clock
        self._containment = containment
        self._undrained = 0
        self._swept_ns: int | None = None

    def run(self, capture: CaptureFile, progress: Callable[[int], None]) -> None:
        """Replay a capture; `progress` is told the position in its file now and then.

        Raises:
            CaptureError: the capture breaks off; all that was readable has been replayed.
            OSError: the kernel refused a test run for another reason than the frame's length.
        """
        self.run_frames(capture, lambda: progress(capture.position))

    def run_frames(
        self, frames: Iterable[Frame], drained: Callable[[], None] = lambda: None
    ) -> None:
        """Replay frames; `drained` is called now and then. Raises as `run` and `frames` do."""
        try:
            for frame in frames:
                self._feed(frame)
                if self._undrained >= DRAIN_FRAMES:
                    self._drain()
                    drained()
        finally:
            self._drain()
            drained()

    def _feed(self, frame: Frame) -> None:
        self._clock.advance(frame.time_ns)
        now_ns = self._clock.now_ns()
        if self._swept_ns is None:
            self._swept_ns = now_ns
        elif now_ns - self._swept_ns >= SWEEP_NS:
            self._drain()
            with self._containment.during(Where.SWEEP):
                self._pipeline.sweep(now_ns)
            with self._containment.during(Where.DUE):
                self._pipeline.tell_due(now_ns)
            self._swept_ns = now_ns
        for data in self._runnable(frame):
            self._program.test_run(data, tstamp=frame.time_ns)
            self._undrained += 1

    def _runnable(self, frame: Frame) -> Iterator[bytes]:
        """The frame as test runs take it."""
        data = ethernet(frame)
        if data is None:
            self.counts["link_type_unsupported"] += 1
            return
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
        for _, data in self._rings.drain():
            try:
                sample = self._intake.decode(data)
                if sample is not None:
                    self._pipeline.take(sample)
            except Exception as error:
                self._containment.failed(Where.SAMPLE, error)
