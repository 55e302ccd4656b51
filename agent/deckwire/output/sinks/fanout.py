"""Every event to every output that takes it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from deckwire.events.event import Event, Headline
from deckwire.output.filter import EventFilter
from deckwire.output.rate import EventRate
from deckwire.output.sinks.sink import Sink, SinkCounters


class Format(Protocol):
    """How an event becomes a line."""

    def line(self, event: Event) -> bytes:
        """The event without a newline, in at most LINE_BYTES bytes."""
        ...


class Output:
    """A sink, the form of its lines, and which of the events it takes."""

    def __init__(
        self,
        sink: Sink,
        form: Format,
        filter_: EventFilter | None = None,
        rate: EventRate | None = None,
        places: frozenset[str] = frozenset(),
    ) -> None:
        """Without a filter it takes all events, without a rate as many as come.

        `places` are the files and receivers that no other output may write to at the same time.
        """
        self.sink = sink
        self.places = places
        self.form = form
        self.rate = rate
        self.over_rate = 0
        """Events beyond its rate: they are losses."""
        self.filter = None if filter_ is None or filter_.passes_all else filter_
        self.filtered = 0
        """Events that the filter kept from this output. They are no losses."""

    def takes(self, event: Event | Headline) -> bool:
        """Whether the filter passes an event."""
        return self.filter is None or self.filter.passes(event)

    def go_on_from(self, other: Output) -> None:
        """Take over the counts of an output of the same sink."""
        self.filtered = other.filtered
        self.over_rate = other.over_rate

    def sums(self) -> Counter[str]:
        """Its counters but the losses, such as ``tcp_written``."""
        sums: Counter[str] = Counter()
        counters, kind = self.sink.counters(), self.sink.scheme
        sums[f"{kind}_offered"] += counters.offered
        sums[f"{kind}_written"] += counters.written
        sums[f"{kind}_queued"] += counters.queued
        for failure, calls in sorted(counters.errors.items()):
            sums[f"{kind}_failed_{failure.removesuffix('_error')}"] += calls
        for name, lines in self.sink.more_sums().items():
            sums[f"{kind}_{name}"] += lines
        if self.filter is not None or self.filtered:
            sums[f"{kind}_filtered"] += self.filtered
        return sums

    def losses(self) -> Counter[str]:
        """Its losses by cause, such as ``tcp_queue_full``."""
        lost: Counter[str] = Counter()
        kind = self.sink.scheme
        for cause, lines in self.sink.counters().dropped.items():
            lost[f"{kind}_{cause}"] += lines
        if self.over_rate:
            lost[f"{kind}_over_rate"] += self.over_rate
        return lost


def to_all(form: Format, sinks: Iterable[Sink]) -> tuple[Output, ...]:
    """Outputs that all take every event in one form."""
    return tuple(Output(sink, form) for sink in sinks)


class _Group:
    """The outputs of one format: each event is formatted once for all of them."""

    def __init__(self, form: Format, outputs: Sequence[Output]) -> None:
        self._form = form
        self._outputs = tuple(outputs)
        self._filters = any(output.filter is not None or output.rate for output in outputs)
        self.held: deque[Event] = deque()
        """Events to format with the next flush."""

    def offer(self, event: Event) -> bool | None:
        """Whether an output had room; None if no filter passes the event."""
        outputs = self._taking(event) if self._filters else self._outputs
        if not outputs:
            passed = any(output.takes(event) for output in self._outputs)
            return False if passed else None
        line = self._form.line(event)
        taken = False
        for output in outputs:
            taken = output.sink.offer(line) or taken
        return taken

    def flush(self) -> None:
        """Format what is held, and offer it. What follows an event that fails stays held."""
        if self._filters:
            self._flush_filtered()
            return
        lines: list[bytes] = []
        try:
            while self.held:
                lines.append(self._form.line(self.held.popleft()))
        finally:
            for output in self._outputs:
                output.sink.offer_all(lines)

    def _flush_filtered(self) -> None:
        lines: dict[Output, list[bytes]] = {output: [] for output in self._outputs}
        try:
            while self.held:
                event = self.held.popleft()
                outputs = self._taking(event)
                if outputs:
                    line = self._form.line(event)
                    for output in outputs:
                        lines[output].append(line)
        finally:
            for output, taken in lines.items():
                output.sink.offer_all(taken)

    def _taking(self, event: Event) -> Sequence[Output]:
        """The outputs that take the event; the others count why not."""
        outputs = []
        for output in self._outputs:
            if not output.takes(event):
                output.filtered += 1
            elif output.rate is not None and not output.rate.take(event.severity):
                output.over_rate += 1
            else:
                outputs.append(output)
        return outputs


class Fanout:
    """Formats each event once in each format, and offers the lines to the outputs that take it.

    It can hold events back and format them together. That is faster than formatting one event after
    each sample, because both kinds of work evict each other from the CPU's caches.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        """Outputs with the same format object share the formatted line."""
        self._use(outputs)
        self._room = 0
        """Events that can still be held: at least one sink is sure to take them."""
        self._leaving: tuple[Output, ...] = ()
        """Outputs that were removed and still have lines."""
        self._left: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        """Sums and losses of those that have ended."""
        self._change = threading.Lock()
        """Guards what the thread that ends outputs changes."""
        self._closing = False
        self._ending: threading.Thread | None = None

    def _use(self, outputs: Sequence[Output]) -> None:
        self._outputs = tuple(outputs)
        self._sinks = tuple(output.sink for output in outputs)
        self._groups = tuple(
            _Group(form, [output for output in outputs if output.form is form])
            for form in {id(output.form): output.form for output in outputs}.values()
        )
        self._take_all = tuple(
            output.sink for output in outputs if output.filter is None and output.rate is None
        )

    def start(self) -> None:
        """Start the sinks' threads."""
        for sink in self._sinks:
            sink.start()

    @property
    def filters(self) -> bool:
        """Whether there may be events that no output takes: then `wants` must be asked."""
        return not self._take_all and bool(self._sinks)

    def wants(self, event: Event | Headline) -> bool:
        """Whether an output takes the event. If none does, all count it as filtered."""
        for output in self._outputs:
            if output.takes(event):
                return True
        for output in self._outputs:
            output.filtered += 1
        return False

    def offer(self, event: Event) -> bool:
        """Offer an event to the outputs that take it; False if none of them had room.

        Never blocks. It is no loss if no output takes the event: see `wants`. Raises what a format
        raises, after the outputs of other formats were offered the event.
        """
        if self._room:
            self._room -= 1
            for group in self._groups:
                group.held.append(event)
            return True
        self.flush()
        had_room: list[bool] = []
        failure: Exception | None = None
        for group in self._groups:
            try:
                taken = group.offer(event)
            except Exception as error:
                failure = error
            else:
                if taken is not None:
                    had_room.append(taken)
        if failure is not None:
            raise failure
        return any(had_room) or not had_room

    def hold(self) -> None:
        """Hold events back from now until `flush`, as many as a sink has room for."""
        # Only the caller's thread puts lines into queues, so the room cannot shrink meanwhile.
        if self._take_all:
            room = max(sink.room for sink in self._take_all)
        else:
            # Which output takes the next event is not known yet.
            room = min((sink.room for sink in self._sinks), default=0)
        held = max((len(group.held) for group in self._groups), default=0)
        self._room = max(0, room - held)

    def flush(self) -> None:
        """Format the events that are held and offer them to the outputs.

        Raises what a format raises. The event that caused it is lost to the outputs of that format;
        those after it stay held.
        """
        self._room = 0
        for group in self._groups:
            if group.held:
                group.flush()

    def reopen(self) -> None:
        """Open files and connections again, as SIGHUP asks for."""
        for sink in self._sinks:
            sink.reopen()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs in use."""
        return self._outputs

    @property
    def settled(self) -> bool:
        """Whether all outputs that `replace` removed have ended."""
        return self._ending is None or not self._ending.is_alive()

    def replace(self, outputs: Sequence[Output], seconds: float) -> None:
        """Use other outputs from now on. Call it only if `settled`.

        A sink that stays keeps its queue, and its counts go on. One that is removed writes its
        lines within `seconds`, in a thread. A new sink starts at once, or after a removed one that
        writes to the same place.
        """
        self.flush()
        before = {output.sink: output for output in self._outputs}
        for output in outputs:
            if output.sink in before:
                output.go_on_from(before[output.sink])
        staying = {output.sink for output in outputs}
        leaving = tuple(output for output in self._outputs if output.sink not in staying)
        new = [output for output in outputs if output.sink not in before]
        self._leaving = leaving
        self._use(outputs)
        taken = frozenset[str]().union(*(output.places for output in leaving))
        waiting = [output for output in new if output.places & taken]
        for output in new:
            if output not in waiting:
                output.sink.start()
        if leaving:
            self._ending = threading.Thread(
                target=self._end, args=(waiting, seconds), name="outputs that end", daemon=True
            )
            self._ending.start()

    def _end(self, waiting: Sequence[Output], seconds: float) -> None:
        """End the outputs that were removed, then start those that wait for it."""
        _close([output.sink for output in self._leaving], time.monotonic() + seconds)
        with self._change:
            sums, losses = self._left
            for output in self._leaving:
                sums.update(output.sums())
                losses.update(output.losses())
                # Lines that stay in its spool count again when that is opened again.
                sums.pop(f"{output.sink.scheme}_spooled", None)
            self._leaving = ()
            if not self._closing:
                for output in waiting:
                    output.sink.start()

    def close(self, timeout: float) -> None:
        """Flush all sinks at the same time, within `timeout` seconds altogether."""
        self.flush()
        deadline = time.monotonic() + timeout
        for sink in self._sinks:
            sink.finish()
        if self._ending is not None:
            # A sink that waits for it is to write its lines too.
            self._ending.join(timeout)
        with self._change:
            self._closing = True
        _close(self._sinks, deadline)

    def sums(self) -> dict[str, int]:
        """All counters of the sinks by kind of output, such as ``tcp_written``.

        Sinks of one kind are added up, also those that were removed. offered = written + queued +
        the sum of all `losses` but ``over_rate``. What a filter or a rate kept back was not
        offered.
        """
        with self._change:
            sums = Counter(self._left[0])
            for output in (*self._outputs, *self._leaving):
                sums.update(output.sums())
        return dict(sums) | dict(sorted(self.losses().items()))

    def losses(self) -> dict[str, int]:
        """Lines lost since the start by cause, such as ``tcp_queue_full``.

        A line that one output lost and another one took counts here, though its event was emitted.
        """
        with self._change:
            lost = Counter(self._left[1])
            for output in (*self._outputs, *self._leaving):
                lost.update(output.losses())
        return dict(lost)

    def failures(self) -> dict[str, str]:
        """Each sink's name, and why it does not work now; "" if it works."""
        return {sink.name: sink.failure() for sink in self._sinks}

    def counters(self) -> list[tuple[str, SinkCounters]]:
        """Each sink's name and counters."""
        return [(sink.name, sink.counters()) for sink in self._sinks]


def _close(sinks: Sequence[Sink], deadline: float) -> None:
    """Flush sinks at the same time, until `deadline` of the monotonic clock."""
    for sink in sinks:
        sink.finish()
    for sink in sinks:
        sink.close(max(0.0, deadline - time.monotonic()))
