"""What the TCP of a decky accepts, and what it drops: the rules of Linux, for both roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from struct import pack
from typing import NamedTuple

import pytest

from deckwire.abi import structs as abi
from tests.support.bpf_frames import (
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    DECKY_B,
    LINUX_OPTIONS,
    MSS,
    TALK6,
    Talk,
    hello,
    pseudo_summed,
    summed,
)
from tests.support.bpf_harness import MS, SECOND, Kernel, Wait, segments

pytestmark = pytest.mark.root

Steps = Sequence[bytes | Wait]
Frame = Callable[..., bytes]

SACK_PERMITTED = b"\x04\x02"
MD5 = b"\x01\x01\x13\x12" + bytes(16)
AO = b"\x1d\x10" + bytes(14)
SCALE = 7


def stamp(value: int, echo: int = 0) -> bytes:
    return b"\x01\x01" + pack("!BBII", 8, 10, value & 0xFFFF_FFFF, echo)


OPTIONS = MSS + b"\x01\x01" + SACK_PERMITTED + b"\x01\x03\x03" + bytes([SCALE])
STAMP = 1_000
WINDOW = 64_240


class Ends(NamedTuple):
    """A conversation seen from the decky: `r` makes frames of the remote end, `d` of the decky."""

    r: Frame
    d: Frame
    talk: Talk
    is_server: bool

    def opened(self, *, stamps: bool = False, signed: bool = False) -> Steps:
        """The handshake; both ends allow SACK and scale their windows by 7."""
        first = stamp(STAMP) if stamps else MD5 if signed else b""
        later = stamp(STAMP, STAMP) if stamps else first
        return [
            self.talk.c("S", options=OPTIONS + first),
            self.talk.s("SA", 0, 1, options=OPTIONS + later),
            self.talk.c("A", 1, 1, options=later, window=500),
        ]


def ends(talk: Talk) -> Ends:
    is_server = talk.server in (DECKY, DECKY6)
    return Ends(talk.c, talk.s, talk, True) if is_server else Ends(talk.s, talk.c, talk, False)


TALKS = {
    "IPv4, server": Talk(),
    "IPv6, server": TALK6,
    "IPv4, client": Talk(DECKY, "203.0.113.5"),
    "IPv6, client": Talk(DECKY6, "2001:db8:3::5"),
    "server, numbers that wrap": Talk(client_iss=0xFFFF_FFFD, server_iss=0xFFFF_FFF0),
}
EACH = pytest.mark.parametrize("end", [ends(talk) for talk in TALKS.values()], ids=TALKS)


class Case(NamedTuple):
    about: str
    steps: Callable[[Ends], Steps]
    """After the handshake; the last one is judged."""
    rule: str = ""
    """The counter of the rule that refuses it; "" if it is accepted, "old" if it was before."""


def taken(end: Ends, size: int = 100) -> Steps:
    """Bytes of the remote end that the decky has acknowledged."""
    return [end.r("PA", 1, 1, bytes(size)), end.d("A", 1, 1 + size, window=500)]


def answered(end: Ends) -> Steps:
    """100 bytes each way, all acknowledged."""
    return [*taken(end), end.d("PA", 1, 101, bytes(100)), end.r("A", 101, 101, window=500)]


CASES = [
    # --- the ACK flag ---
    Case("data", lambda e: [e.r("PA", 1, 1, b"x")]),
    Case("data without ACK", lambda e: [e.r("P", 1, None, b"x")], "no_ack"),
    Case("no flag", lambda e: [e.r("", 1, None, b"x")], "no_ack"),
    Case("FIN without ACK", lambda e: [e.r("F", 1)], "no_ack"),
    # --- sequence numbers ---
    Case("the last byte that the window admits", lambda e: [e.r("A", 1 + WINDOW, 1, b"x")]),
    Case("one beyond the window", lambda e: [e.r("A", 2 + WINDOW, 1, b"x")], "window"),
    Case("an ACK beyond the window", lambda e: [e.r("A", 2 + WINDOW, 1)], "window"),
    Case("far behind", lambda e: [e.r("A", -0x4000_0000, 1, b"x")], "old"),
    Case("far ahead", lambda e: [e.r("A", 0x4000_0000, 1, b"x")], "window"),
    Case(
        "the window grows by its scale",
        lambda e: [e.d("A", 1, 1, window=60_000), e.r("A", 5_000_000, 1, b"x")],
    ),
    Case(
        "and does not shrink",
        lambda e: [
            *(e.d("A", 1, 1, window=60_000), e.d("A", 1, 1, window=1)),
            e.r("A", 5_000_000, 1, b"x"),
        ],
    ),
    Case("acknowledged before", lambda e: [*taken(e), e.r("PA", 1, 1, bytes(99))], "old"),
    Case(
        "a hello that was acknowledged to its last byte",
        lambda e: [e.d("A", 1, 201), e.r("PA", 1, 1, CLIENT_HELLO)],
        "old",
    ),
    Case("partly new", lambda e: [*taken(e), e.r("PA", 51, 1, bytes(100))]),
    Case("one byte that is new", lambda e: [*taken(e), e.r("PA", 1, 1, bytes(101))]),
    Case("a keep-alive", lambda e: [*taken(e), e.r("A", 100, 1)], "old"),
    Case("a keep-alive with a byte", lambda e: [*taken(e), e.r("A", 100, 1, b"\0")], "old"),
    Case("a FIN before the window", lambda e: [*taken(e), e.r("FA", 50, 1)], "old"),
    Case("a FIN in its place", lambda e: [*taken(e), e.r("FA", 101, 1)]),
    # --- acknowledgements ---
    Case("an ACK of nothing sent", lambda e: [e.r("PA", 1, 2, b"x")], "ack_unsent"),
    Case("an ACK of what the decky sent", lambda e: [*answered(e), e.r("A", 101, 101)]),
    Case(
        "an ACK of one byte more", lambda e: [*answered(e), e.r("PA", 101, 102, b"x")], "ack_unsent"
    ),
    Case("an ACK that came late", lambda e: [*answered(e), e.r("PA", 101, 1, b"x")]),
    Case("an ACK from before", lambda e: [*answered(e), e.r("PA", 101, -5, b"x")], "ack_old"),
    Case(
        "an ACK half the numbers away",
        lambda e: [*answered(e), e.r("PA", 101, -0x7FFF_FF00, b"x")],
        "ack_old",
    ),
    # --- RST ---
    Case("RST in its place", lambda e: [*taken(e), e.r("R", 101)]),
    Case("RST with an ACK of anything", lambda e: [*taken(e), e.r("RA", 101, 0x1234_5678)]),
    Case("RST one above", lambda e: [*taken(e), e.r("R", 102)], "rst"),
    Case("RST one below", lambda e: [*taken(e), e.r("R", 100)], "rst"),
    Case("RST beyond the window", lambda e: [*taken(e), e.r("R", 1 << 24)], "window"),
    Case("RST before the window", lambda e: [*taken(e), e.r("R", 1)], "rst"),
    Case("RST at a hole", lambda e: [e.r("A", 11, 1, bytes(10)), e.r("R", 1)]),
    Case("RST within what waits", lambda e: [e.r("A", 11, 1, bytes(10)), e.r("R", 15)], "rst"),
    Case("RST at its right edge", lambda e: [e.r("A", 11, 1, bytes(10)), e.r("R", 21)]),
    *[
        Case(
            f"RST {about} a byte that came after holes, which were filled one by one",
            lambda e, seq=seq: [
                *[e.r("PA", at, 1, bytes(10)) for at in (11, 31, 51, 1, 21, 41)],
                e.d("A", 1, 61),
                e.r("PA", 61, 1, b"x"),
                e.r("R", seq),
            ],
            rule,
        )
        for about, seq, rule in (("in front of", 61, "rst"), ("behind", 62, ""))
    ],
    Case(
        "RST of a FIN that was acknowledged",
        lambda e: [e.r("FA", 1, 1), e.d("A", 1, 2), e.r("R", 1)],
    ),
    Case("RST of a FIN that was not", lambda e: [e.r("FA", 1, 1), e.r("R", 1)], "rst"),
    Case(
        "RST at a closed window, after a probe",
        lambda e: [
            *(e.d("A", 1, 1 + WINDOW, window=0), e.r("A", 1 + WINDOW, 1, b"x")),
            e.r("R", 1 + WINDOW),
        ],
    ),
    Case(
        "RST behind bytes that only the decky saw",
        lambda e: [e.d("A", 1, 301), e.r("R", 301)],
    ),
    # --- after a FIN ---
    Case("data after a FIN", lambda e: [e.r("FA", 1, 1), e.r("PA", 2, 1, b"x")], "after_fin"),
    Case(
        "data in the place of a FIN",
        lambda e: [e.r("FA", 1, 1), e.r("PA", 1, 1, b"xy")],
        "after_fin",
    ),
    Case("a FIN behind a FIN", lambda e: [e.r("FA", 1, 1), e.r("FA", 2, 1)], "after_fin"),
    Case("the FIN again", lambda e: [e.r("FA", 1, 1), e.r("FA", 1, 1)]),
    Case("data before a FIN", lambda e: [e.r("FA", 11, 1), e.r("PA", 1, 1, bytes(10))]),
    Case(
        "an ACK after a FIN",
        lambda e: [e.r("FA", 1, 1), e.d("PA", 1, 2, b"x"), e.r("A", 2, 2)],
    ),
    # --- options ---
    Case("MD5", lambda e: [e.r("PA", 1, 1, b"x", MD5)], "signature"),
    Case("AO", lambda e: [e.r("PA", 1, 1, b"x", AO)], "signature"),
    Case("RST with MD5", lambda e: [e.r("R", 1, None, b"", MD5)], "signature"),
    Case("other options", lambda e: [e.r("PA", 1, 1, b"x", b"\x05\x0a" + bytes(8) + b"\x01\x01")]),
    Case("options that break off", lambda e: [e.r("PA", 1, 1, b"x", b"\x01\x01\x01\x13")]),
    Case("a timestamp that nobody asked for", lambda e: [e.r("PA", 1, 1, b"x", stamp(1))]),
    # --- SYN and SYN-ACK ---
    Case("a SYN-ACK", lambda e: [e.r("SA", 500, 1)], "synack"),
    Case("a SYN-ACK with data", lambda e: [e.r("SA", 500, 1, b"x")], "synack"),
]


def raised(kernel: Kernel) -> str:
    """The one rule that refused a segment, or "old", or "" for none."""
    counts = kernel.raised()
    rules = [name for name in counts if name.startswith("refused_")]
    assert counts.get("frames_refused", 0) == sum(counts[name] for name in rules)
    if rules:
        (rule,) = rules
        return rule.removeprefix("refused_")
    return "old" if counts.get("segments_old", 0) else ""


@EACH
@pytest.mark.parametrize("case", CASES, ids=[case.about for case in CASES])
def test_what_a_decky_accepts(kernel: Kernel, case: Case, end: Ends) -> None:
    *steps, last = case.steps(end)
    kernel.feed(*end.opened(), *steps)
    before = kernel.flow()
    assert raised(kernel) == ""
    kernel.feed(last)
    assert raised(kernel) == case.rule
    if case.rule == "ack_old":
        # Linux may have taken it by its fast path: this alone is noted.
        before.totals.rules = kernel.flow().totals.rules
    if case.rule and case.rule != "old":
        assert kernel.flow() == before


STAMPED = [
    Case("the same", lambda e: [e.r("PA", 1, 1, b"x", stamp(STAMP))]),
    Case("one less", lambda e: [e.r("PA", 1, 1, b"x", stamp(STAMP - 1))]),
    Case("two less", lambda e: [e.r("PA", 1, 1, b"x", stamp(STAMP - 2))], "timestamp"),
    Case(
        "half the numbers away",
        lambda e: [e.r("PA", 1, 1, b"x", stamp(STAMP - 2**31 + 1))],
        "timestamp",
    ),
    Case("none", lambda e: [e.r("PA", 1, 1, b"x")]),
    Case("an older one of a RST", lambda e: [e.r("R", 1, None, b"", stamp(1))]),
    Case("an older one of a FIN", lambda e: [e.r("FA", 1, 1, b"", stamp(1))], "timestamp"),
    Case("an older one of an ACK", lambda e: [e.r("A", 1, 1, b"", stamp(1))], ""),
    Case(
        "older than one that was accepted",
        lambda e: [
            e.r("PA", 1, 1, b"x", stamp(STAMP + 9)),
            e.r("PA", 2, 1, CLIENT_HELLO, stamp(STAMP)),
        ],
        "timestamp",
    ),
    Case(
        "older than one behind a hole",
        lambda e: [e.r("PA", 9, 1, b"x", stamp(STAMP + 9)), e.r("PA", 1, 1, b"x", stamp(STAMP))],
    ),
    Case(
        "older than one that was refused",
        lambda e: [
            e.r("P", 1, None, b"x", stamp(STAMP + 9)),
            e.r("PA", 1, 1, b"x", stamp(STAMP)),
        ],
        "no_ack",
    ),
]


@EACH
@pytest.mark.parametrize("case", STAMPED, ids=[case.about for case in STAMPED])
def test_timestamps(kernel: Kernel, case: Case, end: Ends) -> None:
    kernel.feed(*end.opened(stamps=True), *case.steps(end))
    assert raised(kernel) == case.rule
    assert kernel.raised().get("frames_refused", 0) == bool(case.rule)


FINAL_ACKS: list[tuple[str, dict[str, int | bytes], str]] = [
    ("the same timestamp", {"options": stamp(STAMP)}, ""),
    ("one less", {"options": stamp(STAMP - 1)}, ""),
    ("two less", {"options": stamp(STAMP - 2)}, "timestamp"),
    ("no timestamp", {}, ""),
    ("MD5", {"options": MD5}, "signature"),
    ("at the edge of the window", {"seq": 1 + WINDOW, "options": stamp(STAMP)}, ""),
    ("beyond it", {"seq": 2 + WINDOW, "options": stamp(STAMP)}, "window"),
]


@pytest.mark.parametrize("end", [ends(talk) for talk in (Talk(), TALK6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("about", "fields", "rule"), FINAL_ACKS, ids=[c[0] for c in FINAL_ACKS])
def test_a_decky_drops_a_final_ack_by_the_same_rules(
    kernel: Kernel, end: Ends, about: str, fields: dict[str, int | bytes], rule: str
) -> None:
    *opening, right = end.opened(stamps=True)
    final = end.r("A", **{"seq": 1, "ack": 1, **fields})
    kernel.feed(*opening, final)
    assert raised(kernel) == rule
    assert kernel.raised().get("handshakes", 0) == (not rule)
    kernel.feed(right)
    assert kernel.raised()["handshakes"] == 1


@pytest.mark.parametrize("options", [LINUX_OPTIONS, b"\x01\x01\x01\x01" + LINUX_OPTIONS])
def test_options_count_the_same_wherever_they_are(kernel: Kernel, options: bytes) -> None:
    """Those of Linux are read at once, others one by one."""
    talk = Talk()
    kernel.feed(
        talk.c("S", options=options),
        talk.s("SA", 0, 1, options=options),
        talk.c("A", 1, 1),
        # Beyond a window that has no scale.
        *(talk.s("A", 1, 1, window=60_000), talk.c("A", 70_000, 1, b"x")),
        # With SACK, a RST at the right edge of what waits is accepted.
        talk.c("R", 70_001),
    )
    assert raised(kernel) == ""
    flow = kernel.flow()
    assert flow.totals.close == abi.CLOSES.index("rst")
    # OFFER_SACK and OFFER_STAMPED of bpf/abi.h, and the scale.
    assert {side.offers for side in flow.totals.side} == {0x20 | 0x40 | 7}


def test_a_timestamp_counts_the_same_wherever_it_is(kernel: Kernel) -> None:
    for number, odd in enumerate((b"", b"\x01\x01\x01\x01")):
        end = ends(Talk(client_port=41_000 + number))
        old = end.r("PA", 1, 1, b"x", odd + stamp(STAMP - 2))
        kernel.feed(*end.opened(stamps=True), old)
    assert kernel.raised()["refused_timestamp"] == 2


@EACH
def test_a_decky_that_signs_asks_for_signatures(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(signed=True), end.r("PA", 1, 1, b"x", MD5), end.r("PA", 2, 1, b"x"))
    assert raised(kernel) == ""


def test_a_signature_in_the_syn_alone_frees_of_nothing(kernel: Kernel) -> None:
    """The decky drops that SYN, and answers the same without a signature."""
    talk = Talk()
    kernel.feed(talk.c("S", options=MD5), *talk.opened(), talk.c("PA", 1, 1, b"x", MD5))
    assert raised(kernel) == "signature"


def test_without_sack_no_reset_at_the_right_edge(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("A", 11, 1, bytes(10)), talk.c("R", 21))
    assert raised(kernel) == "rst"


def test_without_a_scale_the_window_is_what_it_says(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.s("A", 1, 1, window=60_000), talk.c("A", 70_000, 1, b"x"))
    assert raised(kernel) == "window"


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_what_a_decky_sends_is_never_judged(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(
        *talk.opened(),
        *(talk.s("", 1, None, b"x"), talk.s("PA", 1 << 30, 1, b"x"), talk.s("A", 1, 1 << 29)),
        talk.s("PA", 1, 1, b"x", MD5),
    )
    assert raised(kernel) == ""


def test_a_lateral_connection_is_judged_both_ways(kernel: Kernel) -> None:
    talk = Talk(DECKY, DECKY_B)
    kernel.feed(*talk.opened(), talk.c("P", 1, None, b"x"), talk.s("P", 1, None, b"x"))
    assert kernel.raised()["refused_no_ack"] == 2


def test_a_midstream_connection_is_never_judged(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(
        *(talk.c("PA", 1, 1, b"x"), talk.c("P", 1 << 30, None, b"x"), talk.s("PA", 1, 1, b"x")),
        talk.c("PA", 5, 1 << 28, b"x", MD5),
    )
    assert raised(kernel) == ""


def test_a_connection_whose_syn_was_not_seen_is_judged(kernel: Kernel) -> None:
    """The decky's SYN-ACK shows that it was there."""
    talk = Talk()
    kernel.feed(*talk.opened()[1:], talk.c("P", 1, None, b"x"))
    assert raised(kernel) == "no_ack"


def test_refusals_heal(kernel: Kernel) -> None:
    """A decky may acknowledge what we refused, or did not see."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("A", 70_000, 1, b"x"))
    assert raised(kernel) == "window"
    kernel.feed(talk.s("A", 1, 70_001), talk.c("PA", 70_001, 1, b"y"), talk.s("A", 1, 70_002))
    assert kernel.raised()["frames_refused"] == 1
    kernel.feed(talk.c("R", 70_002))
    assert kernel.flow().totals.close == abi.CLOSES.index("rst")


@EACH
def test_a_refused_hello_decides_nothing(kernel: Kernel, end: Ends) -> None:
    decoy, real = hello(1, 300), CLIENT_HELLO
    kernel.feed(*end.opened(), end.r("P", 1, None, decoy), end.r("PA", 1, 1, real))
    assert [sample.payload for sample in segments(kernel.samples())] == [real]


@EACH
def test_bytes_that_were_accepted_are_not_sampled_again(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(), end.r("PA", 1, 1, CLIENT_HELLO), end.d("A", 1, 201))
    kernel.feed(end.r("PA", 1, 1, hello(1)[:-1] + b"!"), end.r("PA", 201, 1, CLIENT_HELLO))
    assert len(segments(kernel.samples())) == 2
    side = kernel.client_side() if end.is_server else kernel.server_side()
    assert (side.bytes, side.retransmits) == (600, 1)


# --- who sends ---


def test_frames_of_a_decky_are_believed_from_its_hook_only(kernel: Kernel) -> None:
    talk = Talk()
    syn, synack, ack = talk.opened()
    kernel.feed(syn)
    kernel.feed(synack, egress=True)
    kernel.feed(ack, talk.c("PA", 1, 1, b"x"))
    kernel.feed(talk.s("RA", 1, 2), talk.s("A", 1, 60_000), talk.s("PA", 1, 2, b"forged"))
    assert kernel.raised()["refused_forged"] == 3
    assert kernel.server_side().bytes == 0
    kernel.feed(talk.s("PA", 1, 2, b"true"), egress=True)
    assert kernel.server_side().bytes == 4
    assert raised(kernel) == "forged"


def test_frames_of_a_decky_that_was_opened_at_ingress_are_believed_there(kernel: Kernel) -> None:
    """A mirrored port, or a lateral connection in bridge mode."""
    talk = Talk()
    kernel.feed(*talk.opened(), talk.s("PA", 1, 1, b"x"))
    assert raised(kernel) == ""


# --- checksums ---


def broken(frame: bytes) -> bytes:
    at = 34 if frame[12:14] == b"\x08\x00" else 54
    data = bytearray(frame)
    data[at + 16] ^= 0x55
    return bytes(data)


def broken_ip(frame: bytes) -> bytes:
    data = bytearray(frame)
    data[24] ^= 0x55
    return bytes(data)


def right(steps: Steps) -> list[bytes | Wait]:
    return [summed(step) if isinstance(step, bytes) else step for step in steps]


HELLOS = [CLIENT_HELLO, hello(1, 511), hello(1, 512), hello(1, 1_400)]


@EACH
@pytest.mark.parametrize("data", HELLOS, ids=len)
def test_a_right_checksum_is_accepted(kernel: Kernel, end: Ends, data: bytes) -> None:
    kernel.feed(*right(end.opened()), summed(end.r("PA", 1, 1, data)))
    assert [sample.payload for sample in segments(kernel.samples())] == [data]
    assert raised(kernel) == ""


@EACH
@pytest.mark.parametrize("wrong", [broken, pseudo_summed], ids=["wrong", "pseudo-header only"])
@pytest.mark.parametrize("data", HELLOS, ids=len)
def test_a_wrong_checksum_is_refused(
    kernel: Kernel, end: Ends, data: bytes, wrong: Callable[[bytes], bytes]
) -> None:
    kernel.feed(*right(end.opened()), wrong(summed(end.r("PA", 1, 1, data))))
    assert raised(kernel) == "checksum"
    assert segments(kernel.samples()) == []
    kernel.feed(summed(end.r("PA", 1, 1, data)))
    assert len(segments(kernel.samples())) == 1


@EACH
@pytest.mark.parametrize("flags", ["FA", "R", "RA"])
def test_what_ends_a_connection_needs_a_right_checksum(
    kernel: Kernel, end: Ends, flags: str
) -> None:
    kernel.feed(*right(end.opened()), broken(summed(end.r(flags, 1, 1))))
    assert raised(kernel) == "checksum"
    kernel.feed(summed(end.r(flags, 1, 1)))
    assert kernel.raised()["frames_refused"] == 1


def test_a_wrong_checksum_of_an_ipv4_header_is_refused(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*right(talk.opened()), broken_ip(summed(talk.c("PA", 1, 1, CLIENT_HELLO))))
    assert raised(kernel) == "ip_checksum"


@EACH
def test_checksums_count_only_of_who_opened_with_right_ones(kernel: Kernel, end: Ends) -> None:
    """Whoever leaves them to its network card has wrong ones in its captures."""
    syn, synack, ack = right(end.opened())
    assert isinstance(syn, bytes)
    assert isinstance(synack, bytes)
    opening = [broken(syn), synack] if end.is_server else [syn, broken(synack)]
    kernel.feed(*opening, ack, broken(summed(end.r("PA", 1, 1, CLIENT_HELLO))))
    assert raised(kernel) == ""


def test_a_right_checksum_that_looks_offloaded_counts(kernel: Kernel) -> None:
    """A sender may choose its ISN so that the sum of the pseudo-header is right."""
    rest = next(n for n in range(65_536) if is_both(Talk(client_iss=n).c("S")))
    talk = Talk(client_iss=rest)
    syn = summed(talk.c("S"))
    kernel.feed(*right([syn, *talk.opened()[1:]]), broken(summed(talk.c("PA", 1, 1, b"\x16\x03"))))
    assert raised(kernel) == "checksum"


def is_both(frame: bytes) -> bool:
    return summed(frame) == pseudo_summed(frame)


def test_a_retransmitted_syn_with_a_right_checksum_is_enough(kernel: Kernel) -> None:
    """A first SYN with a wrong one, which the decky drops, must not free of the rule."""
    talk = Talk()
    syn, synack, ack = right(talk.opened())
    assert isinstance(syn, bytes)
    kernel.feed(broken(syn), syn, synack, ack, broken(summed(talk.c("PA", 1, 1, CLIENT_HELLO))))
    assert raised(kernel) == "checksum"


def test_merged_packets_are_spared(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*right(talk.opened()))
    kernel.feed(pseudo_summed(talk.c("PA", 1, 1, hello(1, 2_000))), gso_segs=2, gso_size=1_448)
    assert raised(kernel) == ""


def test_packets_that_a_capturing_host_merged_are_spared(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*right(talk.opened()), pseudo_summed(talk.c("PA", 1, 1, hello(1, 1_461))))
    assert raised(kernel) == ""
    kernel.feed(pseudo_summed(talk.c("PA", 1_462, 1, CLIENT_HELLO)))
    assert raised(kernel) == "checksum"


def test_a_frame_that_was_cut_cannot_be_judged(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*right(talk.opened()), broken(summed(talk.c("PA", 1, 1, CLIENT_HELLO)))[:-1])
    assert raised(kernel) == ""


def test_checksums_can_be_off(kernel: Kernel) -> None:
    kernel.settings(checksums=0)
    talk = Talk()
    kernel.feed(*right(talk.opened()), broken(summed(talk.c("PA", 1, 1, CLIENT_HELLO))))
    assert raised(kernel) == ""


# --- progress is proof ---


def reset(end: Ends) -> Steps:
    return [*taken(end), end.r("R", 101)]


@EACH
def test_a_decky_that_goes_on_did_not_take_the_reset(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(), *reset(end), end.d("A", 1, 201))
    assert kernel.raised()["flows_resumed"] == 1
    kernel.feed(end.r("PA", 201, 1, CLIENT_HELLO))
    (sample,) = segments(kernel.samples())[-1:]
    assert sample.payload == CLIENT_HELLO
    assert kernel.flow().totals.close == abi.CLOSE_NONE


@EACH
def test_new_data_is_proof_after_a_while(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(), *reset(end), Wait(9 * MS), end.d("PA", 1, 101, b"x"))
    assert "flows_resumed" not in kernel.raised()
    kernel.feed(Wait(SECOND), end.d("PA", 1, 101, b"x"))
    assert kernel.raised()["flows_resumed"] == 1


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(lambda e: e.d("A", 1, 101), id="an ACK of what came before"),
        pytest.param(lambda e: e.d("RA", 1, 201), id="a RST in answer"),
        pytest.param(lambda e: e.r("PA", 101, 1, b"x"), id="of the end that reset"),
    ],
)
@EACH
def test_what_is_no_proof(kernel: Kernel, end: Ends, last: Callable[[Ends], bytes]) -> None:
    kernel.feed(*end.opened(), *reset(end), Wait(SECOND), last(end))
    assert "flows_resumed" not in kernel.raised()
    assert kernel.raised()["frames_late"] == 1


def test_a_reset_of_the_decky_itself_is_no_doubt(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.s("R", 1), Wait(SECOND), talk.s("PA", 1, 1, b"x"))
    assert "flows_resumed" not in kernel.raised()


@EACH
def test_the_end_waits_for_the_sweep_if_the_reset_is_in_doubt(kernel: Kernel, end: Ends) -> None:
    """Linux may have taken the segment with the old ACK, and then it does not take the RST."""
    kernel.feed(*end.opened(), *answered(end), end.r("PA", 101, -5, b"x"), end.r("R", 101))
    assert kernel.flow().totals.close == abi.CLOSES.index("rst")
    assert not [word for word in kernel.submitted().split() if word.startswith("end:")]
    kernel.feed(end.d("A", 101, 102))
    assert kernel.raised()["flows_resumed"] == 1
    kernel.feed(end.r("FA", 102, 101), end.d("FA", 101, 103), end.r("A", 103, 102))
    assert kernel.submitted().endswith("end:fin")


def test_a_decky_that_accepts_another_connection_did_not_resume_this_one(kernel: Kernel) -> None:
    """It waits for the final ACK of the new one, and answers a segment outside the window."""
    talk = Talk()
    later = replace(talk, client_iss=talk.client_iss + 70_000, server_iss=77)
    kernel.feed(*talk.opened(), talk.c("R", 1), later.c("S"), later.s("SA", 0, 1))
    kernel.feed(later.c("FA", 0, 1), later.s("A", 1, 1))
    assert "flows_resumed" not in kernel.raised()
    assert kernel.flow().totals.close == abi.CLOSES.index("rst")


@EACH
def test_a_fin_before_bytes_that_were_acknowledged_was_not_taken(kernel: Kernel, end: Ends) -> None:
    """The decky has more than we believed: nothing follows a FIN that was taken."""
    kernel.feed(*end.opened(), end.r("FA", 1, 1), end.d("A", 1, 101))
    kernel.feed(end.r("PA", 101, 1, CLIENT_HELLO))
    assert raised(kernel) == ""
    assert [sample.payload for sample in segments(kernel.samples())] == [CLIENT_HELLO]
    kernel.feed(end.d("FA", 1, 301), end.r("A", 301, 2))
    assert kernel.flow().totals.close == abi.CLOSE_NONE


@EACH
def test_the_ack_of_data_after_a_fin_counts(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(), end.r("FA", 1, 1), end.d("FA", 1, 2), end.r("PA", 2, 2, b"x"))
    assert raised(kernel) == "after_fin"
    totals = kernel.flow().totals
    assert totals.close == abi.CLOSES.index("fin")
    assert not totals.end_sent  # the sweep reports it
    assert totals.last_ns == kernel.now_ns, "its time is that of the ACK"


@EACH
def test_but_not_with_a_signature(kernel: Kernel, end: Ends) -> None:
    kernel.feed(*end.opened(), end.r("FA", 1, 1), end.d("FA", 1, 2), end.r("PA", 2, 2, b"x", MD5))
    assert raised(kernel) == "signature"
    assert kernel.flow().totals.close == abi.CLOSE_NONE


@pytest.mark.parametrize("talk", [Talk(), replace(TALK6, client_port=443, server_port=40_000)])
def test_a_new_syn_begins_only_an_attempt(kernel: Kernel, talk: Talk) -> None:
    kernel.feed(*talk.opened(), talk.c("S", 500), talk.c("PA", 1, 1, CLIENT_HELLO))
    assert len(segments(kernel.samples())) == 1
    assert kernel.raised()["handshakes"] == 1


@EACH
@pytest.mark.parametrize("behind", [0, 50, 100])
def test_a_late_rst_is_refused_and_no_anomaly(kernel: Kernel, end: Ends, behind: int) -> None:
    """A host that has closed resets data of the decky with the number that they acknowledge."""
    kernel.feed(*end.opened(), *taken(end), end.r("FA", 101, 1), end.d("A", 1, 102))
    kernel.submitted()
    kernel.feed(end.d("PA", 1, 1 + behind, b"x"), end.r("R", 1 + behind))
    assert raised(kernel) == ("" if behind == 100 else "rst")
    assert "anomaly" not in kernel.submitted()
    kernel.feed(end.r("R", 102))
    assert kernel.flow().totals.close == abi.CLOSES.index("rst")


@EACH
@pytest.mark.parametrize("at", [-5, 0, 102])
def test_a_rst_that_no_host_sends_is_an_anomaly(kernel: Kernel, end: Ends, at: int) -> None:
    kernel.feed(*end.opened(), *taken(end))
    kernel.submitted()
    kernel.feed(end.r("R", at))
    assert raised(kernel) == "rst"
    assert kernel.submitted() == "anomaly:refused_rst"
