"""Takes samples of IP fragments, and gives the packets that they make to the loaded programs."""

from __future__ import annotations

from collections import Counter

from deckwire.abi import structs as abi
from deckwire.abi.flow_key import flow_key
from deckwire.abi.samples import FragmentSample
from deckwire.captures import split_segments, tcp_ends
from deckwire.ip.fragment import RefusedError, read_fragment
from deckwire.ip.reassembly import Reassembler, Whole
from deckwire.kernel.programs import Program
from deckwire.limits import TEST_RUN_BYTES
from deckwire.pipeline.fragmented import FragmentedConnections
from deckwire.tcp.syn_packet import ACK, SYN


class Fragments:
    """Puts fragments together and runs the program `reassembled` over each packet.

    The program then handles the packet as if it had come at the hook, at the time of the fragment
    that completed it. Samples of it are in the rings when `take` returns.
    """

    def __init__(self, program: Program, connections: FragmentedConnections, seed: int) -> None:
        """`seed` is the kernel side's: it marks the test runs as the agent's."""
        self._program = program
        self._connections = connections
        self._mark = seed & 0xFFFF_FFFF, seed >> 32
        self._reassembler = Reassembler()
        self._refused: Counter[str] = Counter()
        self._received = 0
        self._cut = 0

    def take(self, sample: FragmentSample) -> bool:
        """Take one sample; return whether it completed a packet, so that samples may follow.

        Raises:
            OSError: the kernel refused the test run.
        """
        self._received += 1
        try:
            fragment = read_fragment(sample.frame, sample.l3_off, ingress=sample.ingress)
        except RefusedError as error:
            self._refused[str(error)] += 1
            return False
        whole = self._reassembler.take(fragment, sample.time_ns)
        if whole is None:
            return False
        self._run(whole, sample)
        return True

    def counts(self) -> dict[str, int]:
        """Every counter, by its name in capture_stats.

        fragments_received is the sum of the others, but for packets_cut.
        """
        counts = {"fragments_received": self._received}
        counts |= {f"fragments_refused_{cause}": n for cause, n in sorted(self._refused.items())}
        fates = dict(sorted(self._reassembler.counts.items()))
        counts |= {f"fragments_{fate}": count for fate, count in fates.items()}
        counts["fragments_waiting"] = self._reassembler.waiting
        if self._cut:
            counts["packets_cut"] = self._cut
        return counts

    def losses(self) -> dict[str, int]:
        """Fragments that a bound of the agent dropped, by cause."""
        return {"fragments_evicted": self._reassembler.counts["evicted"], "packets_cut": self._cut}

    def _run(self, whole: Whole, sample: FragmentSample) -> None:
        ends = tcp_ends(whole.frame)
        if ends is not None:
            key = flow_key(ends.source, ends.source_port, ends.destination, ends.destination_port)
            opens = ends.flags & (SYN | ACK) == SYN
            self._connections.came(key, whole.fragments, sample.time_ns, opens=opens)
        pieces = split_segments(whole.frame, TEST_RUN_BYTES)
        if len(pieces) == 1 and len(pieces[0]) < len(whole.frame):
            self._cut += 1
        hook = abi.REASSEMBLED_INGRESS if sample.ingress else 0
        for piece in pieces:
            self._program.test_run(piece, tstamp=sample.time_ns, cb=(hook, *self._mark))
