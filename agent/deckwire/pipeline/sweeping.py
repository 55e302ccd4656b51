"""Sweeps: ends entries of the kernel's tables by time, and evicts entries for others.

A sweep of a full table takes a second or more. It comes in slices of bounded work, between which
samples are taken, so that no ring fills meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter

from deckwire.abi import structs as abi
from deckwire.abi.samples import HandshakeSample, flow_handshake_sample, flow_record
from deckwire.limits import SWEPT_HANDSHAKES
from deckwire.resilience.containment import Containment, Where
from deckwire.tables.flows import FlowBatch, FlowTables, OpenFlow
from deckwire.tcp.flow import FlowRecord

_State = tuple[int, int, int, int, int]
"""One entry of FlowBatch.states: last_ns, close, source_slot, end_sent, synack_flags."""
_source_slot = itemgetter(2)
_Slices = Generator[None, None, None]
_Ranks = Callable[[Iterable[_State]], list[int]]
"""The rank of each connection. Those of a lower rank are evicted first."""

_LOST = abi.HANDSHAKE_LOST

_LINGER_NS = 10_000_000_000
"""How long a closed entry stays, so that late segments begin no connection of their own."""
_SETTLE_NS = 1_000_000_000
"""How long an end sample may take to arrive. Only after that, the sweep reports the end."""
_ENDS = 64
"""Connections that end in one slice at most."""
_CORRECTIONS = 1_024
"""Counts of sources that are corrected in one slice."""
_OPEN = 1 << 96
"""In the rank of a connection that is open: it is above what follows."""
_MOST, _COUNT_SHIFT = 1 << 31, 64
"""More connections than any source has, and where their number is in a rank, above the time."""
_NEVER = 1 << 100
"""The rank of a connection that is not to be evicted."""

End = Callable[[bytes, FlowRecord, str], None]
"""Takes a connection that ended: its flow key, its record, and how it ended."""


class Sweeper:
    """Sweeps the connections in the kernel's tables and ends those that are over."""

    def __init__(
        self,
        flows: FlowTables,
        end: End,
        handshake: Callable[[HandshakeSample], None],
        suppress: Callable[[OpenFlow, bool], bool] = lambda _flow, _without_syn: False,
        *,
        idle_ns: int,
        counts: Counter[str],
        containment: Containment,
        in_order: bool = False,
    ) -> None:
        """Take the tables, and who handles what a sweep finds.

        Args:
            flows: the kernel's tables of connections.
            end: takes each connection that ends.
            handshake: takes each handshake whose sample was lost.
            suppress: is asked before that. It returns True if an equal handshake was emitted
                lately, and then counts this one as suppressed. Its second argument says whether it
                may do so if the event of the SYN may be due still.
            idle_ns: nanoseconds without a packet after which a connection ends.
            counts: counts of what was lost, made good or evicted.
            containment: keeps an exception in one connection from ending the sweep.
            in_order: end connections by time, so that the same packets give the same events.
                Otherwise they end in the order of the kernel's tables, which differs from run to
                run. To sort a full table takes much memory, so only `replay` does it.
        """
        self._flows = flows
        self._end = end
        self._handshake = handshake
        self._suppress = suppress
        self._made_good_ns = 0
        """Handshakes completed until then are reported, if their samples were lost."""
        self._slices: _Slices | None = None
        """What is left of the sweep that is under way."""
        self.fill = 0.0
        """How full the table of connections was after the last sweep, from 0 to 1."""
        self.idle_ns = idle_ns
        """Nanoseconds without a packet after which a connection ends."""
        self._counts = counts
        self._containment = containment
        self._in_order = in_order

    def begin(self, now_ns: int) -> None:
        """Begin a sweep, whose slices `go_on` does. One that is under way goes on instead.

        It ends connections that idled, and those that ended while the rings were full. `now_ns` is
        kernel time.
        """
        if self._slices is None:
            self._slices = self._sweep(now_ns)

    def go_on(self) -> bool:
        """Do one slice of the sweep that is under way; whether there are more.

        A slice reads one batch of a table, ends _ENDS connections, or makes as many handshakes
        good. Samples may be taken between two slices. An exception ends the sweep.
        """
        slices, self._slices = self._slices, None
        if slices is None:
            return False
        try:
            next(slices)
        except StopIteration:
            return False
        self._slices = slices
        return True

    def sweep(self, now_ns: int) -> None:
        """Begin a sweep and do all of it."""
        self.begin(now_ns)
        while self.go_on():
            pass

    def _sweep(self, now_ns: int) -> _Slices:
        sources: Counter[int] = Counter()
        for flows in self._pieces(self._due(now_ns, sources), _time_of):
            for flow in flows:
                if self.end(flow, "idle") and not flow.midstream:
                    sources[flow.state.source_slot] -= 1
            yield
        sources = yield from self._evict(sources)
        for _ in self._flows.recount_sources(sources, _CORRECTIONS):
            yield
        self.fill = self._flows.fill(sources.total())

    def _due(self, now_ns: int, sources: Counter[int]) -> Iterator[list[OpenFlow]]:
        """The connections to end, by batches of the tables, which may have none.

        Those whose ends were sent are deleted, and lost handshakes are reported. `sources` gets the
        connections that are present, by source_slot.
        """
        before_ns, until_ns = self._made_good_ns, now_ns - _SETTLE_NS
        # Set before any connection ends, so that end() does not report them again.
        self._made_good_ns = until_ns
        room = SWEPT_HANDSHAKES
        for batch in self._flows.batches():
            states = batch.states()
            over = self._over(states, now_ns)
            sent = [number for number in over if _is_end_sent(states[number])]
            deleted = self._flows.delete_ended(batch, sent, (states[number][2] for number in sent))
            # If some were gone, it is unknown which: none is subtracted, the next sweep recounts.
            gone = sent if deleted == len(sent) else []
            if not batch.midstream:
                sources.update(map(_source_slot, states))
                sources.subtract(states[number][2] for number in gone)
            lost = [number for number, state in enumerate(states) if state[4] & _LOST]
            for at, number in enumerate(lost, 1):
                flow = batch.flow(number)
                # Half of the room is for services that nothing was emitted of lately.
                if before_ns < flow.established_ns <= until_ns and not self._suppress(
                    flow, room <= SWEPT_HANDSHAKES // 2
                ):
                    room -= 1
                    self._make_good(flow, room >= 0)
                if not at % _ENDS:
                    yield []
            yield [batch.flow(number) for number in over if not _is_end_sent(states[number])]

    def end(self, flow: OpenFlow, close: str) -> OpenFlow | None:
        """End a connection in a table, unless its end was sent already.

        Returns it as it was then; None if it is gone or another is in its place.
        """
        taken = self._flows.take(flow)
        if taken is None:
            return None
        state = taken.state
        if state.synack_flags & _LOST and taken.established_ns > self._made_good_ns:
            self._make_good(taken)
        if not (state.closed and state.end_sent):
            with self._containment.during(Where.END):
                self._end(taken.key, flow_record(taken.value), close)
        return taken

    def end_all(self, close: str, which: Callable[[bytes], bool] = lambda _: True) -> None:
        """End the connections for whose flow key `which` is true.

        A sweep that is under way ends first: it reports handshakes that nobody reports later.
        """
        while self.go_on():
            pass
        flows: Iterable[OpenFlow] = filter(lambda flow: which(flow.key), self._flows.every_flow())
        for flow in self._ordered(flows, _time_of) if self._in_order else flows:
            self.end(flow, close)

    def _make_good(self, flow: OpenFlow, has_room: bool = True) -> None:
        """Report the handshake of a connection whose sample found the ring full."""
        if not has_room:
            self._counts["handshakes_lost"] += 1
            return
        self._counts["handshakes_made_good"] += 1
        with self._containment.during(Where.SWEEP):
            self._handshake(flow_handshake_sample(flow.value))

    def _over(self, states: list[_State], now_ns: int) -> list[int]:
        """Numbers of the entries to end or to delete."""
        settled, lingered, idle = now_ns - _SETTLE_NS, now_ns - _LINGER_NS, now_ns - self.idle_ns
        open_ = abi.CLOSE_NONE
        # One expression, because each sweep looks at thousands of entries that only linger.
        return [
            number
            for number, (last_ns, close, _, sent, _) in enumerate(states)
            if last_ns <= settled
            and (last_ns <= idle if close == open_ else last_ns <= lingered or not sent)
        ]

    def _evict(self, sources: Counter[int]) -> Generator[None, None, Counter[int]]:
        """Evict in time: closed connections first, then the most idle ones.

        A source near its share makes room for its own next connections, and the biggest source
        does in a table that is nearly full. `sources` are the connections present by source_slot.
        Returns those present afterwards.
        """
        for slot, excess in self._flows.crowded_sources(sources):
            sources = yield from self._evict_first(excess, partial(_ranks_within, slot))
        excess = self._flows.crowd(sources.total())
        if excess:
            sources = yield from self._evict_first(excess, partial(_ranks, _Prefixes(sources)))
        return sources

    def _evict_first(self, excess: int, ranks: _Ranks) -> Generator[None, None, Counter[int]]:
        """Evict so many of the lowest rank. Returns the connections present by source_slot."""
        last = yield from self._last(excess, ranks)
        # Connections come and go between both passes. Only those that the second pass counts are
        # evicted, and only evicted ones are subtracted.
        present: Counter[int] = Counter()
        lowest = self._up_to(last, ranks, present)
        for flows in self._pieces(lowest, lambda flow: ranks((flow.state,))[0]):
            for flow in flows:
                evicted = self.end(flow, "evicted") if excess else None
                if evicted is not None:
                    excess -= 1
                    present[flow.state.source_slot] -= 1
                    self._counts["flows_evicted"] += not evicted.state.closed
            yield
        return present

    def _last(self, excess: int, ranks: _Ranks) -> Generator[None, None, int]:
        """The rank of the last one of so many to evict."""
        lowest: list[int] = []
        last = _NEVER - 1
        for batch in self._owned():
            lowest += [rank for rank in ranks(batch.states()) if rank <= last]
            # Sorting now and then takes less time than a heap, and as little memory.
            if len(lowest) > 2 * excess + batch.entries.size:
                lowest.sort()
                del lowest[excess:]
                last = lowest[-1]
            yield
        lowest.sort()
        return lowest[:excess][-1] if lowest else -1

    def _up_to(self, last: int, ranks: _Ranks, present: Counter[int]) -> Iterator[list[OpenFlow]]:
        """The connections up to a rank, by batches; `present` gets all, by source_slot."""
        for batch in self._owned():
            states = batch.states()
            present.update(map(_source_slot, states))
            yield [batch.flow(n) for n, rank in enumerate(ranks(states)) if rank <= last]

    def _pieces(
        self, batches: Iterable[list[OpenFlow]], first: Callable[[OpenFlow], int]
    ) -> Iterator[list[OpenFlow]]:
        """The connections by _ENDS at most; an empty list for each batch without any.

        If they are to be in order, they are sorted by `first`, then by 4-tuple.
        """
        if self._in_order:
            batches = [self._ordered(chain.from_iterable(batches), first)]
        for flows in batches:
            for at in range(0, max(len(flows), 1), _ENDS):
                yield flows[at : at + _ENDS]

    def _ordered(
        self, flows: Iterable[OpenFlow], first: Callable[[OpenFlow], int]
    ) -> list[OpenFlow]:
        return sorted(flows, key=lambda flow: (first(flow), flow.state.last_ns, flow.key))

    def _owned(self) -> Iterator[FlowBatch]:
        """The connections that count against their source's share."""
        return (batch for batch in self._flows.batches() if not batch.midstream)


def _time_of(flow: OpenFlow) -> int:
    return flow.state.last_ns


class _Prefixes(dict[int, int]):
    """The upper part of the rank for each source_slot: the source with the most goes first."""

    def __init__(self, sources: Counter[int]) -> None:
        self._sources = sources

    def __missing__(self, slot: int) -> int:
        prefix = self[slot] = _MOST - self._sources[slot] << _COUNT_SHIFT
        return prefix


def _ranks(prefixes: _Prefixes, states: Iterable[_State]) -> list[int]:
    open_ = abi.CLOSE_NONE
    return [
        last_ns + prefixes[slot] + (_OPEN if close == open_ else 0)
        for last_ns, close, slot, _, _ in states
    ]


def _ranks_within(slot: int, states: Iterable[_State]) -> list[int]:
    """The ranks of one source's connections."""
    open_ = abi.CLOSE_NONE
    return [
        (_OPEN if close == open_ else 0) + last_ns if other == slot else _NEVER
        for last_ns, close, other, _, _ in states
    ]


def _is_end_sent(state: _State) -> bool:
    _, close, _, sent, _ = state
    return close != abi.CLOSE_NONE and bool(sent)
