"""The first bytes of an end: which segments are sampled, and how much of them."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from tests.support.bpf_frames import CLIENT_HELLO, Talk
from tests.support.bpf_harness import Kernel
from tests.support.ssh_wire import (
    CLIENT_BANNER,
    ECDH_INIT,
    SERVER_BANNER,
    kexinit,
    packet,
)

pytestmark = pytest.mark.root

CLIENT_LINE, SERVER_LINE = CLIENT_BANNER + b"\r\n", SERVER_BANNER + b"\r\n"
HEAD_BYTES = 96 * 32
HTTP_BYTES, PAYLOAD_BYTES = 128 * 32, 16 * 32
SSH, HTTP, PAYLOAD = 2, 4, 8
ALL = SSH | HTTP | PAYLOAD
GET = b"GET / HTTP/1.1\r\n\r\n"


@pytest.fixture
def opened(kernel: Kernel) -> Kernel:
    kernel.settings(heads=ALL)
    return kernel


def sampled(kernel: Kernel) -> list[tuple[str, int, int]]:
    """Sender, offset in its stream and length of each sample of a head."""
    found = []
    for sample in kernel.samples():
        if isinstance(sample, SegmentSample) and sample.head:
            assert sample.start_seq is not None
            sender = "c" if sample.sender == sample.client else "s"
            found.append((sender, sample.seq - sample.start_seq, len(sample.payload)))
    return found


def test_both_ends_are_sampled_up_to_the_packet_after_kexinit(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    offer, init = packet(kexinit()), packet(bytes([ECDH_INIT]) + bytes(36))
    mine, theirs = 1 + len(CLIENT_LINE), 1 + len(SERVER_LINE)
    opened.feed(
        *talk.opened(),
        talk.s("PA", 1, 1, SERVER_LINE),
        talk.c("PA", 1, theirs, CLIENT_LINE),
        talk.c("PA", mine, theirs, offer),
        talk.s("PA", theirs, mine + len(offer), offer),
        talk.c("PA", mine + len(offer), theirs + len(offer), init),
        *(
            talk.c("PA", mine + len(offer) + len(init) + 100 * n, theirs + len(offer), bytes(100))
            for n in range(5)
        ),
    )
    expected = [
        ("s", 0, len(SERVER_LINE)),
        ("c", 0, len(CLIENT_LINE)),
        ("c", len(CLIENT_LINE), len(offer)),
        ("s", len(SERVER_LINE), len(offer)),
        ("c", len(CLIENT_LINE) + len(offer), len(init)),
    ]
    found = sampled(opened)
    assert found[:5] == expected
    # What is left of the last units.
    assert sum(size for _, _, size in found[5:]) <= 2 * 32


@pytest.mark.parametrize("first", ["c", "s"])
def test_one_end_opens_the_heads_of_both(opened: Kernel, first: str) -> None:
    talk = Talk(server_port=2_222)
    banner = {"c": talk.c("PA", 1, 1, CLIENT_LINE), "s": talk.s("PA", 1, 1, SERVER_LINE)}
    odd = {
        "s": talk.c("PA", 1, 1 + len(SERVER_LINE), b"-HSS2.0-libssh\r\n"),
        "c": talk.s("PA", 1, 1 + len(CLIENT_LINE), b"-HSS2.0-server\r\n"),
    }
    opened.feed(*talk.opened(), banner[first], odd[first])
    assert [(sender, at) for sender, at, _ in sampled(opened)] == [
        *((end, 0) for end in (first, "cs".replace(first, ""))),
    ]


def test_a_head_has_a_budget_that_nothing_refills(opened: Kernel) -> None:
    """Neither a banner of the other end, nor retransmissions, nor a hole, nor urgent data."""
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.s("PA", 1, 1, SERVER_LINE))
    at = 1
    for n in range(40):
        opened.feed(talk.s("PA", 1 + len(SERVER_LINE) + 100 * n, 1, b"SSH-" + bytes(96)))
    opened.feed(talk.c("PA", at, 1, CLIENT_LINE))
    total = sum(size for sender, _, size in sampled(opened) if sender == "s")
    # A segment may be sampled with a unit that it does not fill.
    assert HEAD_BYTES <= total < 2 * HEAD_BYTES
    gap = 1 + len(SERVER_LINE) + 100 * 60
    for n in range(10):
        opened.feed(talk.s("PAU", gap + 100 * n, 1, b"SSH-" + bytes(96), urgent=5))
        opened.feed(talk.s("PA", 1, 1, SERVER_LINE))
    assert [one for one in sampled(opened) if one[0] == "s"] == []


def test_tiny_segments_use_up_whole_units(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.s("PA", 1, 1, b"SSH-"))
    for n in range(200):
        opened.feed(talk.s("PA", 5 + n, 1, b"x"))
    assert len(sampled(opened)) == 96


@pytest.mark.parametrize(
    ("data", "kind", "budget"),
    [
        (b"SSH-2.0-x\r\n", "ssh", HEAD_BYTES),
        (GET, "http", HTTP_BYTES),
        (b"HTTP/1.0 200 OK\r\n\r\n", "http", HTTP_BYTES),
        (b"AZ", "http", HTTP_BYTES),
        (b"A", "http", HTTP_BYTES),
        (b"SSH", "http", HTTP_BYTES),
        (b"GEt / HTTP/1.1\r\n", "payload", PAYLOAD_BYTES),
        (b"@AA", "payload", PAYLOAD_BYTES),
        (b"AA[", "payload", PAYLOAD_BYTES),
        (b"A\xc1A", "payload", PAYLOAD_BYTES),
        (b"A\0", "payload", PAYLOAD_BYTES),
        (bytes(20), "payload", PAYLOAD_BYTES),
        (b"\x16", "payload", PAYLOAD_BYTES),
        (b" SSH-2.0-x\r\n", "payload", PAYLOAD_BYTES),
    ],
)
@pytest.mark.parametrize("end", "cs")
def test_the_first_bytes_decide_how_many_are_sampled(
    opened: Kernel, data: bytes, kind: str, budget: int, end: str
) -> None:
    talk = Talk(server_port=8_000)
    send = {"c": talk.c, "s": talk.s}[end]
    opened.feed(*talk.opened(), send("PA", 1, 1, data))
    at = 1 + len(data)
    for n in range(50):
        opened.feed(send("PA", at + 160 * n, 1, bytes(160)))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert {(one.sender == one.client, one.head) for one in samples[1:]} == {(end == "c", kind)}
    got = b"".join([one.payload for one in samples])
    assert got == (data + bytes(160 * 50))[: len(got)]
    units = max(1, len(data) // 32) if data[0] != 0x16 else 0
    assert len(got) == len(data) + budget - units * 32


@pytest.mark.parametrize("wanted", range(0, 16, 2))
@pytest.mark.parametrize(
    ("data", "kind"), [(CLIENT_LINE, "ssh"), (GET, "http"), (b"\0\0\0\x01", "payload")]
)
def test_only_the_wanted_kinds_are_sampled(
    kernel: Kernel, wanted: int, data: bytes, kind: str
) -> None:
    kernel.settings(heads=wanted)
    talk = Talk(server_port=22)
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, data))
    kinds = {"ssh": SSH, "http": HTTP, "payload": PAYLOAD}
    shown = [kind] if wanted & kinds[kind] else []
    if not shown and wanted & PAYLOAD:
        shown = ["payload"]
    # "SSH-" begins with three capitals.
    if not wanted & SSH and kind == "ssh" and wanted & HTTP:
        shown = ["http"]
    samples = [one for one in kernel.samples() if isinstance(one, SegmentSample)]
    assert [one.head for one in samples] == shown


def test_an_end_that_speaks_http_to_ssh_has_the_head_of_its_own(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(
        *talk.opened(), talk.s("PA", 1, 1, SERVER_LINE), talk.c("PA", 1, 1 + len(SERVER_LINE), GET)
    )
    heads = [one.head for one in opened.samples() if isinstance(one, SegmentSample)]
    assert heads == ["ssh", "http"]


def test_a_misspelled_banner_before_the_other_one_gets_the_head_of_ssh(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    odd, offer = b"-HSS2.0-libssh\r\n", packet(kexinit())
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, odd),
        talk.s("PA", 1, 1 + len(odd), SERVER_LINE),
        talk.c("PA", 1 + len(odd), 1 + len(SERVER_LINE), offer),
    )
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [one.head for one in samples] == ["payload", "ssh", "ssh"]
    assert samples[2].payload == offer


def test_bytes_that_come_before_the_first_ones_are_for_both_readers(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*talk.opened(), talk.c("PA", 6, 1, GET[5:]), talk.c("PA", 1, 1, GET[:5]))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.head, one.shared, one.payload) for one in samples] == [
        ("undecided", True, GET[5:]),
        ("http", True, GET[:5]),
    ]
    assert samples[0].start_seq == samples[1].seq


def test_a_first_byte_that_may_begin_tls_is_for_both_readers(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, b"\x16"), talk.c("PA", 2, 1, b"\x00\x01\x02"))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.head, one.shared) for one in samples] == [("undecided", True), ("payload", False)]


def test_segments_after_a_hole_are_for_both_readers(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, GET), talk.c("PA", 200, 1, GET))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.head, one.shared) for one in samples] == [("http", False), ("http", True)]


def test_urgent_data_does_not_conceal_a_head(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(
        *talk.opened(),
        talk.c("PAU", 1, 1, GET[:4], urgent=1),
        talk.c("PA", 5, 1, GET[4:]),
    )
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert b"".join([one.payload for one in samples]) == GET
    assert all(one.head and one.shared for one in samples)


def test_a_hello_ends_the_heads_of_both_ends(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    line = b"CONNECT a:443 HTTP/1.1\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    at, there = 1 + len(line), 1 + len(answer)
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, line),
        talk.s("PA", 1, at, answer),
        talk.c("PA", at, there, CLIENT_HELLO),
        talk.c("PA", at + len(CLIENT_HELLO), there, b"GET / HTTP/1.1\r\n\r\n"),
        talk.s("PA", there, at + len(CLIENT_HELLO), b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    )
    assert [(one, two) for one, _, two in sampled(opened)] == [("c", len(line)), ("s", len(answer))]


@pytest.mark.parametrize("at", [200, 2_047, 2_099])
def test_a_later_byte_that_may_begin_tls_is_none_of_the_first_ones(opened: Kernel, at: int) -> None:
    """Neither within the first segment, nor where a search pauses, nor as its last byte."""
    talk = Talk(server_port=22)
    first = bytearray(CLIENT_LINE.ljust(2_100, b"x"))
    first[at] = 0x16
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, bytes(first)),
        *(talk.c("PA", 2_101 + 400 * n, 1, bytes(400)) for n in range(2)),
    )
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [one.payload for one in samples[:2]] == [first, bytes(400)]
    # As the last byte, it is for both readers.
    assert [one.head for one in samples] == ["undecided" if at == 2_099 else "ssh", "ssh", "ssh"]


def test_only_the_first_bytes_of_an_end_are_a_banner(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, b"hello\r\n"), talk.c("PA", 8, 1, CLIENT_LINE))
    heads = [one.head for one in opened.samples() if isinstance(one, SegmentSample)]
    assert heads == ["payload", "payload"]


def test_a_connection_without_a_seen_handshake_has_no_head(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    opened.feed(talk.c("PA", 1, 1, CLIENT_LINE), talk.s("PA", 1, 1, SERVER_LINE))
    assert sampled(opened) == []


def test_heads_can_be_turned_off(kernel: Kernel) -> None:
    talk = Talk(server_port=22)
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, CLIENT_LINE), talk.s("PA", 1, 1, SERVER_LINE))
    assert kernel.submitted() == "syn handshake"


def test_a_hello_after_a_banner_is_still_found(opened: Kernel) -> None:
    """A banner must not conceal TLS."""
    talk = Talk(server_port=22)
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, CLIENT_LINE),
        talk.c("PA", 1 + len(CLIENT_LINE), 1, CLIENT_HELLO),
    )
    tls = [
        sample
        for sample in opened.samples()
        if isinstance(sample, SegmentSample) and not sample.head
    ]
    assert [sample.payload for sample in tls] == [CLIENT_HELLO]


def with_syn_data(talk: Talk, data: bytes, taken: int) -> list[bytes]:
    """A connection whose SYN has data, of which the server takes the first bytes."""
    at = 1 + taken
    return [talk.c("S", 0, None, data), talk.s("SA", 0, at), talk.c("A", at, 1)]


def test_data_of_a_syn_is_sampled_and_counts_as_far_as_it_was_taken(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*with_syn_data(talk, GET, len(GET)))
    for n in range(60):
        opened.feed(talk.c("PA", 1 + len(GET) + 160 * n, 1, bytes(160)))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert {one.head for one in samples} == {"http"}
    assert [one.syn_data for one in samples[:2]] == [True, False]
    assert {one.start_seq for one in samples} == {samples[0].seq}
    assert len(b"".join([one.payload for one in samples[1:]])) == HTTP_BYTES - 32


def test_data_of_a_syn_that_was_not_taken_is_sampled_again(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*with_syn_data(talk, GET, 0), talk.c("PA", 1, 1, GET))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.head, one.syn_data, one.payload) for one in samples] == [
        ("http", True, GET),
        ("http", False, GET),
    ]


def test_a_banner_in_a_syn_opens_the_other_head(opened: Kernel) -> None:
    talk = Talk(server_port=22)
    at = 1 + len(CLIENT_LINE)
    opened.feed(
        *with_syn_data(talk, CLIENT_LINE, len(CLIENT_LINE)), talk.s("PA", 1, at, b"-HSS2.0\r\n")
    )
    heads = [one.head for one in opened.samples() if isinstance(one, SegmentSample)]
    assert heads == ["ssh", "ssh"]


def test_data_of_a_syn_that_is_not_wanted_ends_the_head(kernel: Kernel) -> None:
    kernel.settings(heads=SSH)
    talk = Talk(server_port=80)
    kernel.feed(*with_syn_data(talk, GET, len(GET)), talk.c("PA", 1 + len(GET), 1, CLIENT_LINE))
    assert sampled(kernel) == []


def test_what_is_only_repeated_uses_up_no_head(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(*talk.opened(), talk.c("PA", 1, 1, GET[:4]))
    for _ in range(200):
        opened.feed(talk.c("PA", 1, 1, GET[:4]), talk.c("PA", 2, 1, GET[1:2]))
    opened.feed(talk.c("PA", 5, 1, GET[4:]))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [one.payload for one in samples] == [GET[:4], GET[4:]]


def test_what_fills_a_hole_is_sampled(opened: Kernel) -> None:
    talk = Talk(server_port=80)
    opened.feed(
        *talk.opened(),
        talk.c("PA", 1, 1, GET[:4]),
        talk.c("PA", 10, 1, GET[9:]),
        talk.c("PA", 5, 1, GET[4:9]),
    )
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [one.payload for one in samples] == [GET[:4], GET[9:], GET[4:9]]
