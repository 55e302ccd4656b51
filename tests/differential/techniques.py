"""What a peer may send so that a sensor and a decky read different bytes.

Each technique is a row of the table in docs/evasion.md, and is tried against the TCP of a decky by
`tests/differential/live.py`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from tests.support.raw_peer import (
    AO,
    MD5,
    MSS_OPTION,
    Peer,
    in_fragments,
    on_cpu,
    piece,
    with_headers,
)

FAR = 1 << 24
"""Further than any receive window here reaches."""
_SETTLE_SECONDS = 0.3
"""So long an end waits for an ACK before it sends its bytes again."""


class Copy(StrEnum):
    """Which of the two messages a decky read, or an event has."""

    TRUE = "the hello"
    DECOY = "the decoy"
    NONE = "neither"


class Kind(StrEnum):
    """When a technique is played."""

    OPENING = "opening"
    STEP = "step"
    DELIVERY = "delivery"


@dataclass(slots=True)
class Play:
    """One connection: the end that the test makes, and the two messages of equal length."""

    peer: Peer
    true: bytes
    decoy: bytes
    rng: random.Random
    done: int = 0
    """Bytes of the message that are delivered; the stream may have others before."""

    @property
    def begins(self) -> int:
        """The position of the message in the stream."""
        return len(self.peer.sent) - self.done

    @property
    def left(self) -> int:
        return len(self.true) - self.done

    def rest(self) -> bytes:
        """The decoy from here on; the whole of it behind the message."""
        return self.decoy[self.done :] or self.decoy

    def push(self, count: int, extra: bytes = b"", **how: Any) -> None:
        """Send the next `count` bytes of the message in order, and `extra` behind them."""
        data = self.true[self.done : self.done + count]
        self.done += len(data)
        self.peer.push(data + extra, **how)

    def part(self, start: int, end: int | None, source: bytes = b"", **how: Any) -> None:
        """Send bytes of a message out of turn."""
        data = (source or self.true)[start:end]
        self.peer.emit(data, self.begins + start, **how)

    def delivered(self, source: bytes = b"") -> None:
        """All of the message was sent in parts; an end repeats the bytes of `source`."""
        self.peer.sent += (source or self.true)[self.done :]
        self.done = len(self.true)

    def middle(self) -> int:
        """A position within what is left, 8 bytes from its ends at least."""
        return self.rng.randint(min(self.done + 8, len(self.true) - 8), len(self.true) - 8)

    def cuts(self, count: int) -> list[tuple[int, int]]:
        """What is left in up to `count` parts."""
        inner = range(self.done + 1, len(self.true))
        marks = sorted(self.rng.sample(inner, min(count - 1, len(inner))))
        return list(pairwise([self.done, *marks, len(self.true)]))

    def open(self, data: bytes = b"") -> bool:
        """Make the handshake; whether that worked."""
        if self.peer.opening is None:
            self.syn(data)
            self.peer.wait(lambda: self.peer.connected)
        else:
            self.synack()
        if self.peer.connected and not self.peer.reset:
            self.peer.accept()
        return self.peer.connected and not self.peer.reset

    def syn(self, data: bytes = b"", isn: int | None = None) -> None:
        at = -1 if isn is None else isn - self.peer.isn - 1
        self.peer.emit(data, at, "S", options=self.offers())

    def synack(self) -> None:
        self.peer.emit(at=-1, flags="SA", options=self.offers())
        self.peer.connected = True

    def offers(self) -> bytes:
        stamp = b"\x04\x02" + self.peer.stamp()[2:] if self.peer.stamps else b"\x01\x01\x04\x02"
        return MSS_OPTION + stamp + b"\x01\x03\x03\x07"

    def settle(self) -> None:
        """Send again what is missing, as any TCP does, and acknowledge what came."""
        peer = self.peer
        for _ in range(8):
            if peer.wait(lambda: peer.acked >= len(peer.sent), _SETTLE_SECONDS) or peer.reset:
                break
            at = max(peer.acked, 0)
            peer.emit(peer.sent[at : at + 1_200], at)
        if not peer.reset:
            peer.accept()


@dataclass(frozen=True, slots=True)
class Technique:
    """A row of the table."""

    name: str
    kind: Kind
    play: Callable[[Play], None]
    took: Copy = Copy.TRUE
    """Which copy the decky reads if this is the only technique."""
    anomaly: str = ""
    """The `technique` of each tcp_anomaly that is emitted, with spaces between; "" if none is."""
    family: int = 0
    """4 or 6 if it exists only there."""
    client: bool | None = None
    """Whether the end that plays it must be the client; None: either."""
    stamps: bool = False
    """Needs timestamps."""
    fast_open: bool = False
    """The decky takes data of a SYN."""
    sums: bool = False
    """Needs a peer that makes its checksums itself."""
    lateral: bool = True
    """Between two deckies the same is reported; else docs/evasion.md says why not."""
    needs: str = ""
    """A signature (`known_signatures`): a kernel that does not know it refuses nothing."""
    reported: Copy | None = None
    """What is reported, where that is not what the decky took."""

    @property
    def copy(self) -> Copy:
        return self.took if self.reported is None else self.reported


def _opening(name: str, play: Callable[[Play], None], **more: Any) -> Technique:
    return Technique(name, Kind.OPENING, play, **more)


def _step(name: str, play: Callable[[Play], None], **more: Any) -> Technique:
    return Technique(name, Kind.STEP, play, **more)


def _delivery(name: str, play: Callable[[Play], None], **more: Any) -> Technique:
    return Technique(name, Kind.DELIVERY, play, **more)


# --- openings ---


def plain(p: Play) -> None:
    p.open()


def _decoy_in_syn(p: Play) -> None:
    p.open(p.decoy)


def _hello_in_syn(p: Play) -> None:
    p.syn(p.true)
    if p.peer.wait(lambda: p.peer.connected):
        p.delivered()
        p.peer.accept()


def _headed_by_syn(p: Play) -> None:
    """The beginning of the message in the SYN, other bytes for its place afterwards."""
    count = p.middle()
    p.syn(p.true[:count])
    if p.peer.wait(lambda: p.peer.connected):
        p.peer.sent, p.done = p.true[:count], count
        p.peer.emit(p.decoy[:count] + p.true[count : count + 20], 0)


def _second_syn(p: Play) -> None:
    p.syn()
    if p.peer.wait(lambda: p.peer.connected):
        stamp = p.peer.stamp()
        p.syn(isn=p.peer.isn + p.rng.choice([FAR, FAR * 7, FAR * 99]))
        # The decky answers. Linux 6.15 wants the timestamp of its SYN-ACK, not that of the answer.
        p.peer.emit(flags="A", options=stamp)


def _first_syn_reset(p: Play) -> None:
    peer, first = p.peer, p.peer.isn + FAR * 5
    p.syn(isn=first)
    if peer.wait(lambda: peer.connected):
        peer.emit(at=first - peer.isn, flags="R")
        peer.connected, peer.opening = False, None
        p.open()


def _decoy_before_ack(p: Play) -> None:
    p.syn()
    if p.peer.wait(lambda: p.peer.connected):
        p.peer.emit(p.decoy, flags="P")
        p.peer.accept()


def _wrong_first_ack(p: Play) -> None:
    """The decky answers a wrong ACK of its SYN-ACK with a RST, and waits on."""
    p.syn()
    if p.peer.wait(lambda: p.peer.connected):
        p.peer.emit(p.decoy, ack=p.peer.expects + FAR)
        p.peer.wait(lambda: False, 5)
        p.peer.reset = False
        p.peer.accept()


def _reset_in_handshake(p: Play) -> None:
    p.syn()
    if p.peer.wait(lambda: p.peer.connected):
        p.peer.emit(at=FAR, flags="R")
        p.peer.accept()


def _split(p: Play) -> None:
    """A SYN for the decky's SYN; the decky answers it with a SYN-ACK, which is acknowledged."""
    p.peer.emit(at=-1, flags="S", options=p.offers())
    if p.peer.wait(lambda: p.peer.connected):
        p.peer.accept()


def _unasked_synack(p: Play) -> None:
    """A SYN-ACK of another number first. The decky answers it with a RST, and waits on."""
    p.peer.emit(at=FAR, flags="SA", ack=p.peer.expects + FAR, options=p.offers())
    p.peer.wait(lambda: False, 5)
    p.peer.reset = False
    p.open()


# --- steps: before, within or behind the message ---


def _emit(**how: Any) -> Callable[[Play], None]:
    """The rest of the decoy, sent like this."""
    return lambda p: p.peer.emit(p.rest(), **how)


def _empty(flags: str, distance: int = 0, **how: Any) -> Callable[[Play], None]:
    """A segment without data, so far from its place."""
    return lambda p: p.peer.emit(at=len(p.peer.sent) + distance, flags=flags, **how)


def _next_signed(p: Play) -> None:
    """The other end may not know such signatures. Then it takes them, else the same again."""
    p.push(20, options=AO)


def _signed(option: bytes) -> Callable[[Play], None]:
    return lambda p: p.peer.emit(p.rest(), options=option)


def _lost_fragment(p: Play) -> None:
    p.peer.emit(p.rest(), shape=lambda packet, ident: in_fragments(48)(packet, ident)[:-1])


def _overlapping_fragments(p: Play) -> None:
    def shape(packet: bytes, ident: int) -> list[bytes]:
        first, *others = in_fragments(64)(packet, ident)
        return [first, piece(packet, ident, 32, bytes(64), True), *others]

    p.peer.emit(p.rest(), shape=shape)


def _reset_at_edge(p: Play) -> None:
    """Linux takes a RST at the right edge of what waits behind a hole."""
    place = len(p.peer.sent) + 100
    p.peer.emit(bytes(40), place)
    p.peer.emit(at=place + 40, flags="R")
    p.peer.wait(lambda: False, _SETTLE_SECONDS)
    p.peer.reset = True


def _reset_at_forged_edge(p: Play) -> None:
    place = len(p.peer.sent) + FAR
    p.peer.emit(b"x", place)
    p.peer.emit(at=place + 1, flags="R")


def _exact_reset(p: Play) -> None:
    p.peer.wait(lambda: p.peer.acked >= len(p.peer.sent), _SETTLE_SECONDS)
    p.peer.emit(flags="R")
    p.peer.reset = True


def _early_fin(p: Play) -> None:
    p.peer.emit(flags="FA")
    p.peer.ended = True
    p.peer.emit(p.rest())


def _copy_of_sent(p: Play) -> None:
    p.peer.wait(lambda: p.peer.acked >= len(p.peer.sent), _SETTLE_SECONDS)
    p.peer.emit(p.decoy[: p.done], p.begins)


def _straddles(p: Play) -> None:
    """Begins before the window with other bytes: only its true tail is new."""
    after = min(30, p.left)
    old = p.decoy[max(p.done - 40, 0) : p.done]
    new = p.true[p.done : p.done + after]
    p.peer.emit(old + new, len(p.peer.sent) - len(old))
    p.peer.sent += new
    p.done += after


def _urgent(p: Play) -> None:
    count = min(20, p.left)
    p.push(count, b"!", flags="PAU", urgent=count + 1)


def _urgent_ahead(p: Play) -> None:
    """The pointer is in one segment, its byte in the next."""
    first = min(20, p.left)
    second = min(10, p.left - first)
    p.push(first, flags="PAU", urgent=first + second + 1)
    p.push(second, b"!")


def _keep_alives(p: Play) -> None:
    for data in (b"", b"\0", b"x"):
        p.peer.emit(data, len(p.peer.sent) - 1, "A")


def _probes(p: Play) -> None:
    """The next byte alone, again and again."""
    byte = p.true[p.done : p.done + 1]
    for _ in range(3):
        p.peer.emit(byte, flags="A")
    p.peer.sent += byte
    p.done += len(byte)


def _window_updates(p: Play) -> None:
    for window in (0, 1, 500, 64_000):
        p.peer.emit(flags="A", window=window)


def _without_stamp(p: Play) -> None:
    p.push(20, options=b"")


# --- ways to send the message ---


def segments(p: Play) -> None:
    for start, end in p.cuts(2):
        p.push(end - start)


def _tiny(p: Play) -> None:
    while p.left:
        p.push(1)


def _in_parts(order: Callable[[list[int]], list[int]]) -> Callable[[Play], None]:
    def play(p: Play) -> None:
        for start in order(list(range(p.done, len(p.true), 3))):
            p.part(start, start + 3)
        p.delivered()

    return play


def _start_again(p: Play) -> None:
    middle = p.middle()
    for _ in range(200):
        p.part(p.done, middle)
    p.part(middle, None)
    p.delivered()


def _shuffled(p: Play) -> None:
    cuts = p.cuts(20) * 2
    for start, end in p.rng.sample(cuts, len(cuts)):
        p.part(start, end)
    p.delivered()


def _overlap_in_order(first: bool) -> Callable[[Play], None]:
    """One copy, then the other for the same place, then the rest of the first one."""

    def play(p: Play) -> None:
        one, other = (p.true, p.decoy) if first else (p.decoy, p.true)
        middle = p.middle()
        p.part(p.done, middle, one)
        p.part(p.done, middle, other)
        p.part(middle, None, one)
        p.delivered(one)

    return play


def _overlap_covered(p: Play) -> None:
    """A part of the decoy behind a hole, then one segment with all: the later one counts."""
    p.part(p.middle(), None, p.decoy)
    p.part(p.done, None)
    p.delivered()


def _overlap_twice(p: Play) -> None:
    """Two copies of the same part behind a hole: the first one counts."""
    middle = p.middle()
    p.part(middle, None)
    p.part(middle, None, p.decoy)
    p.part(p.done, middle)
    p.delivered()


def _overlap_around(p: Play) -> None:
    """A part of the decoy behind a hole, a larger one around it, then the start."""
    low = min(max(p.middle() - 60, p.done + 90), len(p.true) - 48)
    p.part(low + 1, low + 40, p.decoy)
    p.part(low, None)
    p.part(p.done, low)
    p.delivered()


def _fragments(size: int, backwards: bool = False) -> Callable[[Play], None]:
    def shape(packet: bytes, ident: int) -> list[bytes]:
        parts = in_fragments(size)(packet, ident)
        return parts[::-1] if backwards else parts

    def play(p: Play) -> None:
        for start, end in p.cuts(2):
            p.push(end - start, shape=shape)

    return play


def _headers(count: int) -> Callable[[Play], None]:
    def play(p: Play) -> None:
        p.peer.shape = with_headers(count)
        segments(p)
        p.settle()
        p.peer.shape = None

    return play


def _fin_with_data(p: Play) -> None:
    start, end = p.cuts(2)[0]
    p.push(end - start)
    p.push(p.left, flags="PFA")
    p.peer.ended = True


def _fin_first(p: Play) -> None:
    """The end with a FIN behind a hole, then what is before it."""
    middle = p.middle()
    p.part(middle, None, flags="PFA")
    p.part(p.done, middle)
    p.delivered()
    p.peer.ended = True


def _cut_short(p: Play) -> None:
    p.push(p.left - 8)
    p.peer.emit(flags="FA")
    p.peer.ended = True


def _noise(p: Play, over: threading.Event) -> None:
    """From another CPU: what the decky drops, in any order with what it takes."""
    with on_cpu(1):
        while not over.is_set():
            p.peer.emit(p.decoy, FAR, flags="P", options=b"")
            p.peer.emit(at=FAR * 9, flags="R", options=b"")
            p.peer.emit(p.decoy, 0, options=MD5)
            p.peer.emit(p.decoy, 0, options=b"", tcp_sum="wrong")
            over.wait(0.001)


def _two_cpus(p: Play) -> None:
    over = threading.Event()
    other = threading.Thread(target=_noise, args=(p, over))
    other.start()
    try:
        with on_cpu(0):
            for start, end in p.cuts(30):
                p.push(end - start)
                p.peer.wait(lambda: p.peer.acked >= len(p.peer.sent), 0.002)
    finally:
        over.set()
        other.join()


def _from_two_cpus(p: Play) -> None:
    """One half of the segments from each CPU, at the same time."""
    cuts, stamp = p.cuts(40), p.peer.stamp()

    def send(number: int) -> None:
        with on_cpu(number):
            for start, end in cuts[number::2]:
                p.part(start, end, options=stamp)

    threads = [threading.Thread(target=send, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p.delivered()


TECHNIQUES = (
    # --- openings ---
    _opening("a decoy in the SYN, without Fast Open", _decoy_in_syn, client=True),
    _opening("the hello in the SYN, with Fast Open", _hello_in_syn, client=True, fast_open=True),
    _opening(
        "its beginning in the SYN with Fast Open, then the decoy",
        _headed_by_syn,
        client=True,
        fast_open=True,
        anomaly="overlapping_segments",
    ),
    _opening("a second SYN with another number", _second_syn, client=True),
    _opening("a first SYN with another number, then reset", _first_syn_reset, client=True),
    _opening("a decoy without ACK before the handshake ends", _decoy_before_ack, client=True),
    _opening("a decoy with a wrong ACK of the SYN-ACK", _wrong_first_ack, client=True),
    _opening("an RST beyond the window in the handshake", _reset_in_handshake, client=True),
    _opening("a SYN instead of a SYN-ACK (split handshake)", _split, client=False),
    _opening("a SYN-ACK that acknowledges no SYN, then a right one", _unasked_synack,
             client=False),
    # --- decoys ---
    _step("a decoy without ACK", _emit(flags="P"), anomaly="refused_flags"),
    _step("a decoy without any flag", _emit(flags=""), anomaly="refused_flags"),
    _step(
        "a decoy that acknowledges what was never sent",
        lambda p: p.peer.emit(p.rest(), ack=p.peer.expects + 1_000),
        anomaly="refused_ack",
    ),
    _step(
        "a decoy with a far too old ACK",
        # Another window: the fast path of Linux does not compare the ACK with older ones.
        lambda p: p.peer.emit(p.rest(), ack=p.peer.expects - FAR, window=1_000),
        anomaly="refused_ack",
    ),
    _step(
        "a decoy beyond the window",
        lambda p: p.peer.emit(p.rest(), len(p.peer.sent) + FAR),
        anomaly="refused_window",
    ),
    _step("a decoy before the window", lambda p: p.peer.emit(p.rest(), -len(p.decoy) - FAR)),
    _step("a decoy with an MD5 signature", _signed(MD5), anomaly="refused_option"),
    _step("the next bytes with an AO signature, then without ²", _next_signed,
          anomaly="refused_option", needs="KNOWS_AO"),
    _step(
        "a decoy with an old timestamp",
        lambda p: p.peer.emit(p.rest(), options=p.peer.stamp(1_000)),
        anomaly="refused_timestamp",
        stamps=True,
    ),
    _step(
        "a decoy with a wrong TCP checksum",
        _emit(tcp_sum="wrong"),
        anomaly="refused_checksum",
        sums=True,
    ),
    _step(
        "a decoy with the sum of the pseudo-header only",
        _emit(tcp_sum="pseudo"),
        anomaly="refused_checksum", sums=True,
    ),
    _step(
        "a decoy with a wrong IPv4 checksum",
        _emit(ip_sum="wrong"),
        anomaly="refused_checksum", sums=True,
        family=4,
    ),
    _step("a decoy in fragments, one of them missing", _lost_fragment),
    _step(
        "a decoy in fragments that overlap",
        _overlapping_fragments,
    ),
    _step("other bytes for a place that was acknowledged", _copy_of_sent),
    _step("other bytes there, with the next ones behind them", _straddles,
          anomaly="overlapping_segments"),
    # --- ends ---
    _step("an RST beyond the window", _empty("R", FAR), anomaly="refused_window"),
    _step("an RST one byte ahead", _empty("R", 1), anomaly="refused_rst"),
    _step("an RST with a wrong checksum", _empty("RA", tcp_sum="wrong"),
          anomaly="refused_checksum", sums=True),
    _step("an RST with an MD5 signature", _empty("R", options=MD5), anomaly="refused_option"),
    _step("an RST at the edge of a byte beyond the window", _reset_at_forged_edge,
          anomaly="refused_window"),
    _step("an RST at the edge of what waits behind a hole", _reset_at_edge, took=Copy.NONE),
    _step("an RST with the next number", _exact_reset, took=Copy.NONE),
    _step("a FIN beyond the window", _empty("FA", FAR), anomaly="refused_window"),
    _step("a FIN without ACK", _empty("F"), anomaly="refused_flags"),
    _step("a FIN with a wrong checksum", _empty("FA", tcp_sum="wrong"),
          anomaly="refused_checksum", sums=True),
    _step("a decoy behind a FIN", _early_fin, took=Copy.NONE, anomaly="data_after_fin"),
    _step("a SYN in the connection", _empty("S", FAR, options=MSS_OPTION)),
    _step("a SYN-ACK in the connection", _empty("SA", options=MSS_OPTION),
          anomaly="forged_synack"),
    # --- what Linux takes ---
    _step("an urgent byte", _urgent, anomaly="contested_hello"),
    _step("an urgent pointer before its byte", _urgent_ahead, anomaly="contested_hello"),
    _step("keep-alives with and without a byte", _keep_alives),
    _step("the next byte alone, three times", _probes),
    _step("a window that closes and opens", _window_updates),
    _step("a segment without its timestamp", _without_stamp, stamps=True),
    # --- ways to send ---
    _delivery("one byte a segment", _tiny),
    _delivery("three bytes a segment, backwards", _in_parts(lambda starts: starts[::-1])),
    _delivery("three bytes a segment, even ones, then odd ones",
              _in_parts(lambda starts: starts[::2] + starts[1::2])),
    _delivery("the beginning 200 times", _start_again),
    _delivery("twenty segments in any order, each twice", _shuffled),
    _delivery("then the decoy in its place, in order", _overlap_in_order(True)),
    _delivery("the decoy, then the hello in its place, in order", _overlap_in_order(False),
              took=Copy.DECOY),
    _delivery("a part of the decoy behind a hole, then all", _overlap_covered,
              anomaly="overlapping_segments"),
    _delivery("a part behind a hole, then the decoy's", _overlap_twice,
              anomaly="overlapping_segments"),
    _delivery("a part of the decoy behind a hole, then more around it", _overlap_around,
              anomaly="overlapping_segments"),
    _delivery("IP fragments of 64 bytes", _fragments(64), lateral=False),
    _delivery("IP fragments of 48 bytes, backwards", _fragments(48, backwards=True),
              lateral=False),
    _delivery("behind 16 extension headers", _headers(16), family=6),
    _delivery("behind 17 extension headers", _headers(17), family=6, anomaly="too_many_headers",
              reported=Copy.NONE, lateral=False),
    _delivery("a FIN with the last bytes", _fin_with_data),
    _delivery("a FIN behind a hole, then what is before it", _fin_first),
    _delivery("cut short by a FIN", _cut_short, took=Copy.NONE),
    _delivery("from one CPU, decoys and RSTs from another", _two_cpus, sums=True,
              anomaly="refused_checksum refused_flags refused_option refused_window"),
    _delivery("from two CPUs at once", _from_two_cpus),
)  # fmt: skip

PLAIN = Technique("nothing", Kind.OPENING, plain)
SEGMENTS = Technique("nothing", Kind.DELIVERY, segments)
WHOLE = Technique("in one segment", Kind.DELIVERY, lambda p: p.push(p.left))
