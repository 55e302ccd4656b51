"""Sweeps: ends entries of the kernel's tables by time, and evicts entries for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import nsmallest
from operator import itemgetter

from deckwire.abi import structs as abi
from deckwire.abi.samples import HandshakeSample, flow_handshake_sample, flow_record
from deckwire.limits import SWEPT_HANDSHAKES
from deckwire.resilience.containment import Containment, Where
from deckwire.tables.flows import FlowBatch, FlowTables, OpenFlow
from deckwire.tcp.flow import FlowRecord

_State = tuple[int, int, int, int, int]
"""One entry of FlowBatch.states: last_ns, close, flags, source_slot, synack_flags."""
_source_slot = itemgetter(3)
_Rank = tuple[bool, int, int]
"""Connections of a lower rank are evicted first."""

_LOST = abi.HANDSHAKE_LOST

_LINGER_NS = 10_000_000_000
"""How long a closed entry stays, so that late segments begin no connection of their own."""
_SETTLE_NS = 1_000_000_000
"""How long an end sample may take to arrive. Only after that, the sweep reports the end."""

End = Callable[[bytes, FlowRecord, str], None]
"""Takes a connection that ended: its flow key, its record, and how it ended."""


class Sweeper:
    """Sweeps the connections in the kernel's tables and ends those that are over."""

    def __init__(
        self,
        flows: FlowTables,
        end: End,
        handshake: Callable[[HandshakeSample], None],
        *,
        idle_ns: int,
        counts: Counter[str],
        containment: Containment,
        in_order: bool = False,
    ) -> None:
        """`in_order` ends connections by time, so that the same packets give the same events.

        Otherwise they end in the order of the kernel's tables, which differs from run to run: to
        sort a full table takes much memory.
        """
        self._flows = flows
        self._end = end
        self._handshake = handshake
        self._made_good_ns = 0
        """Handshakes completed until then are reported, if their samples were lost."""
        self.idle_ns = idle_ns
        """Nanoseconds without a packet after which a connection ends."""
        self._counts = counts
        self._containment = containment
        self._in_order = in_order

    def sweep(self, now_ns: int) -> float:
        """End connections that idled, and those that ended while the rings were full.

        `now_ns` is kernel time. Returns how full the table of connections is then, from 0 to 1.
        """
        sources: Counter[int] = Counter()
        for flow in self._ordered(self._due(now_ns, sources), _time_of):
            if self.end(flow, "idle") and not flow.midstream:
                sources[flow.state.source_slot] -= 1
        sources = self._evict(sources)
        self._flows.recount_sources(sources)
        return self._flows.fill(sources.total())

    def _due(self, now_ns: int, sources: Counter[int]) -> Iterator[OpenFlow]:
        """The connections to end. Those whose ends were sent are deleted, lost handshakes reported.

        `sources` gets the connections that are present, by source_slot.
        """
        before_ns, until_ns = self._made_good_ns, now_ns - _SETTLE_NS
        # Set before any connection ends, so that end() does not report them again.
        self._made_good_ns = until_ns
        room = SWEPT_HANDSHAKES
        for batch in self._flows.batches():
            states = batch.states()
            for number in [n for n, state in enumerate(states) if state[4] & _LOST]:
                flow = batch.flow(number)
                if before_ns < flow.established_ns <= until_ns:
                    room -= 1
                    self._make_good(flow, room >= 0)
            over = self._over(states, now_ns)
            sent = [number for number in over if _is_end_sent(states[number])]
            deleted = self._flows.delete_ended(batch, sent, (states[number][3] for number in sent))
            # If some were gone, it is unknown which: none is subtracted, the next sweep recounts.
            gone = sent if deleted == len(sent) else []
            if not batch.midstream:
                sources.update(map(_source_slot, states))
                sources.subtract(states[number][3] for number in gone)
            for number in over:
                if not _is_end_sent(states[number]):
                    yield batch.flow(number)

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
        """End the connections for whose flow key `which` is true."""
        flows = (flow for flow in self._flows.every_flow() if which(flow.key))
        for flow in self._ordered(flows, _time_of):
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
        open_, sent = abi.CLOSE_NONE, abi.FLOW_END_SENT
        # One expression, because each sweep looks at thousands of entries that only linger.
        return [
            number
            for number, (last_ns, close, flags, _, _) in enumerate(states)
            if last_ns <= settled
            and (last_ns <= idle if close == open_ else last_ns <= lingered or not flags & sent)
        ]

    def _evict(self, sources: Counter[int]) -> Counter[int]:
        """Evict in time: closed connections first, then the most idle ones.

        A source near its share makes room for its own next connections, and the biggest source
        does in a table that is nearly full. `sources` are the connections present by source_slot.
        Returns those present afterwards.
        """
        for slot, excess in self._flows.crowded_sources(sources):
            sources = self._evict_first(excess, partial(_rank_within, slot))
        excess = self._flows.crowd(sources.total())
        if excess:
            sources = self._evict_first(excess, partial(_rank, sources))
        return sources

    def _evict_first(self, excess: int, rank: Callable[[_State], _Rank]) -> Counter[int]:
        """Evict so many of the lowest rank. Returns the connections present by source_slot."""
        ranks = (rank(state) for batch in self._owned() for state in batch.states())
        last = max(nsmallest(excess, ranks), default=None)
        # Connections come and go between both passes. Only those that the second pass counts are
        # evicted, and only evicted ones are subtracted.
        present: Counter[int] = Counter()
        lowest = self._up_to(last, rank, present)
        for flow in self._ordered(lowest, lambda flow: rank(flow.state)):
            evicted = self.end(flow, "evicted") if excess else None
            if evicted is not None:
                excess -= 1
                present[flow.state.source_slot] -= 1
                self._counts["flows_evicted"] += not evicted.state.closed
        return present

    def _up_to(
        self, last: _Rank | None, rank: Callable[[_State], _Rank], present: Counter[int]
    ) -> Iterator[OpenFlow]:
        """The connections up to a rank; `present` gets all, by source_slot."""
        for batch in self._owned():
            states = batch.states()
            present.update(map(_source_slot, states))
            for number, state in enumerate(states):
                if last is not None and rank(state) <= last:
                    yield batch.flow(number)

    def _ordered(
        self, flows: Iterable[OpenFlow], first: Callable[[OpenFlow], object]
    ) -> Iterable[OpenFlow]:
        """The connections by `first`, then by 4-tuple, if they are to be in order."""
        if not self._in_order:
            return flows
        return sorted(flows, key=lambda flow: (first(flow), flow.state.last_ns, flow.key))

    def _owned(self) -> Iterator[FlowBatch]:
        """The connections that count against their source's share."""
        return (batch for batch in self._flows.batches() if not batch.midstream)


def _time_of(flow: OpenFlow) -> int:
    return flow.state.last_ns


def _rank(sources: Counter[int], state: _State) -> _Rank:
    last_ns, close, _, slot, _ = state
    return close == abi.CLOSE_NONE, -sources[slot], last_ns


def _rank_within(slot: int, state: _State) -> _Rank:
    last_ns, close, _, other, _ = state
    return other != slot, close == abi.CLOSE_NONE, last_ns


def _is_end_sent(state: _State) -> bool:
    _, close, flags, _, _ = state
    return close != abi.CLOSE_NONE and bool(flags & abi.FLOW_END_SENT)
