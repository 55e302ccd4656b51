"""What an end of SSH says: which of it the kernel takes for an emitted one, and suppresses."""

from __future__ import annotations

from dataclasses import replace
from struct import pack_into

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import EndSample, SegmentSample
from deckwire.tables.suppression import Suppression
from tests.support.bpf_frames import CLIENT_HELLO, DECKY, DECKY_B, TALK6, Talk
from tests.support.bpf_harness import SECOND, Kernel, Wait
from tests.support.ssh_wire import (
    CLIENT_BANNER,
    CLIENT_LISTS,
    ECDH_INIT,
    ECDH_REPLY,
    IGNORE,
    SERVER_BANNER,
    SERVER_LISTS,
    kexinit,
    packet,
)

pytestmark = pytest.mark.root

SSH = 2
WINDOW = ("source", "event", "fingerprint")
LINE, OFFER = CLIENT_BANNER + b"\r\n", packet(kexinit())
INIT, REPLY = packet(bytes([ECDH_INIT]) + bytes(36)), packet(bytes([ECDH_REPLY]) + bytes(200))
HEAD = LINE, OFFER, INIT
SERVER_HEAD = SERVER_BANNER + b"\r\n", packet(kexinit(SERVER_LISTS)), REPLY
TALK = Talk(server_port=22)


@pytest.fixture
def opened(kernel: Kernel) -> Kernel:
    kernel.settings(heads=SSH)
    return kernel


def sent(
    kernel: Kernel, talk: Talk, *payloads: bytes, end: str = "c", after: bytes = b""
) -> list[SegmentSample]:
    """The samples of the first payloads of an end in a new connection."""
    frames, seq = list(talk.opened()), 1
    for payload in payloads:
        frames.append(getattr(talk, end)("PA", seq, 1, payload))
        seq += len(payload)
    if after:
        frames.append(getattr(talk, end)("PA", seq, 1, after))
    kernel.feed(Wait(2 * SECOND), *frames)
    return [sample for sample in kernel.samples() if isinstance(sample, SegmentSample)]


def emit(kernel: Kernel, talk: Talk, *payloads: bytes, end: str = "c") -> list[int]:
    """Send a head, and suppress equal ones as the agent does; its signatures."""
    samples = sent(kernel, talk, *payloads, end=end)
    # The last one may be cut.
    assert all(map(bytes.startswith, payloads, [sample.payload for sample in samples]))
    assert len(samples) == len(payloads)
    assert not any(sample.before for sample in samples)
    suppression = Suppression(kernel.loaded.maps["hello_seen"])
    known = list(dict.fromkeys(sample.hello for sample in samples))
    assert all(known)
    for signature in known:
        suppression.open(signature, WINDOW, kernel.now_ns + 300 * SECOND)
    return known


def again(talk: Talk, number: int = 1) -> Talk:
    """The same ends in another connection."""
    return replace(talk, client_port=talk.client_port + number)


def with_random(offer: bytes, value: int) -> bytes:
    """A KEXINIT with another cookie and another padding."""
    changed = bytearray(offer)
    changed[6:22] = bytes([value]) * 16
    changed[-offer[4] :] = bytes([value]) * offer[4]
    return bytes(changed)


@pytest.mark.parametrize("talk", [TALK, TALK6, Talk(client_port=22, server_port=40_000)])
@pytest.mark.parametrize(("end", "head"), [("c", HEAD), ("s", SERVER_HEAD)])
def test_an_equal_head_is_suppressed(
    opened: Kernel, talk: Talk, end: str, head: tuple[bytes, ...]
) -> None:
    emit(opened, talk, *head, end=end)
    equal = (head[0], with_random(head[1], 0xA5), head[2][:6] + b"\x77" * (len(head[2]) - 6))
    assert sent(opened, again(talk), *equal, end=end, after=bytes(100)) == []
    assert opened.raised()["heads_suppressed"] == 1


def test_one_head_counts_once(opened: Kernel) -> None:
    emit(opened, TALK, *HEAD)
    for number in range(1, 4):
        assert sent(opened, again(TALK, number), *HEAD) == []
    values = [abi.SEEN.parse(value) for _, value in opened.loaded.maps["hello_seen"].items()]
    assert sorted(seen.suppressed for seen in values if seen.signature) == [0, 3]
    assert max(values, key=lambda seen: seen.suppressed).deckies.bit_count() == 1


def test_both_ends_are_suppressed_and_so_is_the_connection(opened: Kernel) -> None:
    """A brute force of one client costs user space nothing after the first connection."""
    emit(opened, TALK, *HEAD)
    emit(opened, again(TALK), *SERVER_HEAD, end="s")
    services = Suppression(opened.loaded.maps["service_seen"])
    from deckwire.abi.hashes import service_signature  # noqa: PLC0415
    from tests.support.bpf_harness import SETTINGS  # noqa: PLC0415

    talk = again(TALK, 2)
    (flow,) = opened.table("flows")[:1]
    key, client = flow.key, flow.totals.client
    for event in (abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW):
        signature = service_signature(key, client, SETTINGS["seed"], event)
        services.open(signature, WINDOW, opened.now_ns + 300 * SECOND)
    at, there = 1, 1
    frames = list(talk.opened())
    for mine, theirs in zip(HEAD, SERVER_HEAD, strict=True):
        frames.append(talk.s("PA", there, at, theirs))
        there += len(theirs)
        frames.append(talk.c("PA", at, there, mine))
        at += len(mine)
    frames += [talk.c("FA", at, there), talk.s("FA", there, at + 1), talk.c("A", at + 1, there + 1)]
    opened.feed(Wait(2 * SECOND), *frames)
    assert opened.submitted() == "syn"
    assert opened.raised()["heads_suppressed"] == 2
    assert opened.raised()["ends_suppressed"] == 1


@pytest.mark.parametrize("cut", [22, 30, 201, len(OFFER) - 3, len(OFFER) - 4])
def test_a_kexinit_in_two_segments_is_suppressed(opened: Kernel, cut: int) -> None:
    emit(opened, TALK, LINE, OFFER[:cut], OFFER[cut:], INIT)
    offer = with_random(OFFER, 0x3C)
    assert sent(opened, again(TALK), LINE, offer[:cut], offer[cut:], INIT) == []
    assert opened.raised()["heads_suppressed"] == 1


def test_all_in_one_segment_is_suppressed(opened: Kernel) -> None:
    emit(opened, TALK, LINE + OFFER + INIT)
    assert sent(opened, again(TALK), LINE + with_random(OFFER, 9) + INIT, after=bytes(64)) == []
    assert opened.raised()["heads_suppressed"] == 1


def test_a_misspelled_banner_is_suppressed_too(opened: Kernel) -> None:
    """The server's banner has opened the client's head."""
    head = b"-HSS2.0-libssh\r\n", OFFER, INIT
    for number in range(2):
        talk = again(TALK, number)
        opened.feed(Wait(2 * SECOND), *talk.opened(), talk.s("PA", 1, 1, b"SSH-2.0-%d\n" % number))
        seq = 1
        for payload in head:
            opened.feed(talk.c("PA", seq, 11, payload))
            seq += len(payload)
        suppression = Suppression(opened.loaded.maps["hello_seen"])
        samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
        assert len(samples) == (1 if number else 4)
        for sample in samples[1:]:
            suppression.open(sample.hello, WINDOW, opened.now_ns + 300 * SECOND)
    assert opened.raised()["heads_suppressed"] == 1


def test_it_is_suppressed_on_another_port_but_not_on_another_decky(opened: Kernel) -> None:
    emit(opened, Talk(server=DECKY, server_port=22), *HEAD)
    assert sent(opened, Talk(server=DECKY, server_port=2_222), *HEAD) == []
    assert len(sent(opened, Talk(server=DECKY_B, server_port=22), *HEAD)) == 3


def test_the_head_of_another_client_is_sampled(opened: Kernel) -> None:
    emit(opened, TALK, *HEAD)
    assert len(sent(opened, replace(TALK, client="192.0.2.77"), *HEAD)) == 3


def test_the_other_end_has_a_head_of_its_own(opened: Kernel) -> None:
    emit(opened, TALK, *HEAD)
    assert len(sent(opened, again(TALK), *HEAD, end="s")) > 0


def changed_lists(number: int) -> bytes:
    lists = list(CLIENT_LISTS)
    lists[number] = b"x" + lists[number][1:]
    return packet(kexinit(lists))


@pytest.mark.parametrize("number", range(8))
def test_a_change_of_one_list_is_seen(opened: Kernel, number: int) -> None:
    """What comes before it was suppressed, and the sample says so."""
    known = emit(opened, TALK, *HEAD)
    samples = sent(opened, again(TALK), LINE, changed_lists(number), INIT)
    assert [sample.payload for sample in samples] == [changed_lists(number), INIT]
    assert [sample.before for sample in samples] == [known[0], 0]
    assert all(sample.hello and sample.hello not in known for sample in samples)
    assert samples[0].start_seq == samples[0].seq - len(LINE)
    assert "heads_suppressed" not in opened.raised()


@pytest.mark.parametrize("at", [4, 8, 20, len(LINE) - 1])
def test_a_change_of_the_banner_is_seen(opened: Kernel, at: int) -> None:
    emit(opened, TALK, *HEAD)
    line = bytearray(LINE)
    line[at] ^= 1
    samples = sent(opened, again(TALK), bytes(line), OFFER, INIT)
    assert [sample.payload for sample in samples] == [bytes(line), OFFER, INIT]
    assert not any(sample.before for sample in samples)


def test_a_first_part_that_is_sampled_has_the_rest_sampled(opened: Kernel) -> None:
    """Else the agent would have a banner and no KEXINIT."""
    known = emit(opened, TALK, *HEAD)
    Suppression(opened.loaded.maps["hello_seen"]).withdraw(known[0])
    assert len(sent(opened, again(TALK), *HEAD)) == 3
    assert "heads_suppressed" not in opened.raised()


@pytest.mark.parametrize("number", [IGNORE, ECDH_REPLY, 21, 255])
def test_an_unexpected_packet_behind_the_kexinit_is_sampled(opened: Kernel, number: int) -> None:
    """It may show that the roles are reversed."""
    known = emit(opened, TALK, *HEAD)
    other = packet(bytes([number]) + bytes(36))
    samples = sent(opened, again(TALK), LINE, OFFER, other)
    assert [(sample.payload, sample.before) for sample in samples] == [(other, known[-1])]
    assert samples[0].start_seq == samples[0].seq - len(LINE + OFFER)


@pytest.mark.parametrize("padding", [0, 3])
def test_a_kexinit_without_padding_is_never_suppressed(opened: Kernel, padding: int) -> None:
    offer = bytearray(OFFER)
    offer[4] = padding
    samples = sent(opened, TALK, LINE, bytes(offer))
    assert [bool(sample.hello) for sample in samples] == [True, False]


@pytest.mark.parametrize("length", [0, 22, 0x10000])
def test_a_kexinit_of_a_wrong_length_is_never_whole(opened: Kernel, length: int) -> None:
    offer = bytearray(OFFER)
    pack_into(">I", offer, 0, length)
    emit_of = sent(opened, TALK, LINE, bytes(offer))
    suppression = Suppression(opened.loaded.maps["hello_seen"])
    for sample in emit_of:
        if sample.hello:
            suppression.open(sample.hello, WINDOW, opened.now_ns + 300 * SECOND)
    sent(opened, again(TALK), LINE, bytes(offer))
    assert "heads_suppressed" not in opened.raised()


def test_random_bytes_inside_a_line_count(opened: Kernel) -> None:
    """Only where a packet begins are they a cookie."""
    first = b"SSH-2.0-x"
    emit(opened, TALK, first, OFFER)
    samples = sent(opened, again(TALK), first, with_random(OFFER, 7))
    assert [sample.payload for sample in samples] == [with_random(OFFER, 7)]


def test_a_repeated_segment_changes_nothing(opened: Kernel) -> None:
    emit(opened, TALK, *HEAD)
    talk = again(TALK)
    at = 1 + len(LINE)
    opened.feed(
        Wait(2 * SECOND),
        *talk.opened(),
        talk.c("PA", 1, 1, LINE),
        talk.c("PA", 1, 1, LINE),
        talk.c("PA", 1, 1, LINE[:5]),
        talk.c("PA", at, 1, OFFER),
        talk.c("PA", at, 1, OFFER),
        talk.c("PA", at + len(OFFER), 1, INIT),
    )
    assert not any(isinstance(one, SegmentSample) for one in opened.samples())
    assert opened.raised()["heads_suppressed"] == 1


def test_what_comes_out_of_order_is_sampled_with_what_came_before(opened: Kernel) -> None:
    known = emit(opened, TALK, *HEAD)
    talk = again(TALK)
    at = 1 + len(LINE)
    opened.feed(
        Wait(2 * SECOND),
        *talk.opened(),
        talk.c("PA", 1, 1, LINE),
        talk.c("PA", at + 100, 1, OFFER[100:]),
        talk.c("PA", at, 1, OFFER[:100]),
        talk.c("PA", at + len(OFFER), 1, INIT),
    )
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.payload, one.hello, one.before) for one in samples] == [
        (OFFER[100:], 0, known[0]),
        (OFFER[:100], 0, 0),
        (INIT, 0, 0),
    ]


def test_a_hello_behind_a_suppressed_head_is_sampled(opened: Kernel) -> None:
    emit(opened, TALK, *HEAD)
    for number, payloads in enumerate(
        [(LINE, CLIENT_HELLO), (LINE, OFFER, CLIENT_HELLO), (LINE, OFFER, INIT, CLIENT_HELLO)], 1
    ):
        samples = sent(opened, again(TALK, number), *payloads)
        assert CLIENT_HELLO in [sample.payload for sample in samples]


def test_the_end_of_a_head_that_was_suppressed_in_part_is_sampled(opened: Kernel) -> None:
    """A banner alone is another event than a banner with a KEXINIT."""
    known = emit(opened, TALK, *HEAD)
    talk = again(TALK)
    at = 1 + len(LINE)
    opened.feed(
        Wait(2 * SECOND),
        *talk.opened(),
        talk.c("PA", 1, 1, LINE),
        talk.s("A", 1, at),
        talk.c("RA", at, 1),
    )
    (end,) = [one for one in opened.samples() if isinstance(one, EndSample)]
    client = end.record.client
    assert end.record.heads[client] == known[0]
    assert end.record.heads[1 - client] == 0


def test_nothing_is_hashed_without_deduplication(kernel: Kernel) -> None:
    kernel.settings(heads=SSH, dedup=0)
    assert [sample.hello for sample in sent(kernel, TALK, *HEAD)] == [0, 0, 0]


def test_a_request_to_an_ssh_server_has_no_signature(opened: Kernel) -> None:
    opened.settings(heads=SSH | 4)
    talk = TALK
    opened.feed(*talk.opened(), talk.s("PA", 1, 1, SERVER_HEAD[0]))
    opened.feed(talk.c("PA", 1, 1 + len(SERVER_HEAD[0]), b"GET / HTTP/1.1\r\n\r\n"))
    samples = [one for one in opened.samples() if isinstance(one, SegmentSample)]
    assert [(one.head, one.hello != 0) for one in samples] == [("ssh", True), ("http", False)]
