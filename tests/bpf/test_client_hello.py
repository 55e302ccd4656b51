"""Which ClientHellos the kernel takes for an emitted one, and what it then suppresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.abi import structs as abi
from deckwire.abi.hashes import session_id_hash
from deckwire.abi.samples import SegmentSample, flow_suppressed_hello
from deckwire.tables.suppression import Suppression
from deckwire.tls.hello_cache import client_key
from tests.support.bpf_frames import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    DECKY,
    DECKY_B,
    DSTOPTS,
    SERVER_HELLO,
    TALK6,
    TCP,
    Talk,
    ethernet,
    extension,
    ipv6,
    record,
)
from tests.support.bpf_harness import SECOND, SETTINGS, Kernel, Wait
from tests.support.flights import client_hello, u16, vector

pytestmark = pytest.mark.root

MSS = 1_400
WINDOW = ("source", "event", "fingerprint")
SESSION_ID = bytes(range(32))
CERTIFICATE = record(22, b"\x0b" + bytes(2_000))
SNI = (0, vector(2, b"\0" + vector(2, b"decoy.example")))
GROUPS = (10, vector(2, u16(29, 23)))
ALGORITHMS = (13, vector(2, u16(0x0403, 0x0804)))
ALPN = (16, vector(2, vector(1, b"h2")))
TICKET = (35, b"")
VERSIONS = (43, vector(1, u16(0x0304, 0x0303)))


def key_share(*keys: tuple[int, bytes]) -> tuple[int, bytes]:
    return 51, vector(2, b"".join(u16(group) + vector(2, key) for group, key in keys))


SHARES = key_share((29, b"a" * 32), (23, b"b" * 65))
EXTENSIONS = (SNI, GROUPS, ALGORITHMS, ALPN, TICKET, VERSIONS, SHARES)


def wire(body: bytes) -> bytes:
    """A ClientHello's body in one message in one record."""
    return record(22, b"\x01" + len(body).to_bytes(3, "big") + body, 0x0301)


def hello(*extensions: tuple[int, bytes], **fields: bytes | int) -> bytes:
    fields.setdefault("session_id", SESSION_ID)
    return wire(client_hello(*(extensions or EXTENSIONS), **fields))  # type: ignore[arg-type]


HELLO = hello()


def segments(kernel: Kernel) -> list[SegmentSample]:
    return [sample for sample in kernel.samples() if isinstance(sample, SegmentSample)]


def sent(kernel: Kernel, talk: Talk, *payloads: bytes) -> list[SegmentSample]:
    """The samples of the first payloads of a client in a new connection."""
    frames, seq = list(talk.opened()), 1
    for payload in payloads:
        frames.append(talk.c("PA", seq, 1, payload))
        seq += len(payload)
    kernel.feed(Wait(2 * SECOND), *frames)
    return segments(kernel)


def signature(kernel: Kernel, talk: Talk, payload: bytes) -> int:
    """The signature of a hello that is not suppressed."""
    (sample,) = sent(kernel, talk, payload)
    assert not sample.hello_suppressed
    return sample.hello


def emit(kernel: Kernel, talk: Talk, payload: bytes = HELLO, seconds: int = 300) -> None:
    """Send a hello and suppress equal ones, as the agent does."""
    suppression = Suppression(kernel.loaded.maps["hello_seen"])
    known = signature(kernel, talk, payload)
    assert known
    suppression.open(known, WINDOW, kernel.now_ns + seconds * SECOND)


@pytest.mark.parametrize("talk", [Talk(), TALK6, Talk(client_port=443, server_port=40_000)])
def test_an_equal_hello_is_suppressed(kernel: Kernel, talk: Talk) -> None:
    emit(kernel, talk)
    again = replace(talk, client_port=talk.client_port + 1)
    assert sent(kernel, again, HELLO) == []
    assert kernel.raised()["hellos_suppressed"] == 1


def test_it_is_suppressed_on_another_port_but_not_on_another_decky(kernel: Kernel) -> None:
    emit(kernel, Talk(server=DECKY))
    assert sent(kernel, Talk(server=DECKY, server_port=8_443), HELLO) == []
    assert len(sent(kernel, Talk(server=DECKY_B), HELLO)) == 1


def after_an_extension(frame: bytes) -> bytes:
    """A frame of TALK6 with destination options in front of its TCP header."""
    packet = extension(DSTOPTS, TCP, frame[54:])
    return ethernet(ipv6(packet, TALK6.client, TALK6.server, next_header=DSTOPTS))


def test_it_is_suppressed_after_extension_headers_too(kernel: Kernel) -> None:
    emit(kernel, TALK6)
    for payload, sampled in ((HELLO, 0), (hello(SNI), 1)):
        talk = replace(TALK6, client_port=41_000 + sampled)
        segment = after_an_extension(talk.c("PA", 1, 1, payload))
        kernel.feed(Wait(2 * SECOND), *talk.opened(), segment)
        assert [sample.payload for sample in segments(kernel)] == [payload] * sampled
    assert kernel.raised()["hellos_suppressed"] == 1


def test_suppressed_hellos_are_counted(kernel: Kernel) -> None:
    emit(kernel, Talk())
    for port in (41_000, 41_001, 41_002):
        assert sent(kernel, Talk(client_port=port), HELLO) == []
    (seen,) = (
        abi.SEEN.parse(value) for _, value in kernel.loaded.maps["hello_seen"].items() if any(value)
    )
    assert seen.suppressed == 3
    assert seen.last_ns - seen.first_ns == 2 * (2 * SECOND + 3_000_000)
    assert seen.deckies.bit_count() == 1


def test_the_hello_of_another_client_is_sampled(kernel: Kernel) -> None:
    emit(kernel, Talk())
    assert len(sent(kernel, Talk(client="192.0.2.77"), HELLO)) == 1


def test_a_suppression_window_closes(kernel: Kernel) -> None:
    emit(kernel, Talk(), seconds=2)
    assert len(sent(kernel, Talk(client_port=41_000), HELLO)) == 1


def test_without_dedup_no_hello_is_suppressed_or_hashed(kernel: Kernel) -> None:
    emit(kernel, Talk())
    kernel.settings(dedup=0)
    assert signature(kernel, Talk(client_port=41_000), HELLO) == 0


ALIKE = {
    "random": wire(HELLO[9:11] + bytes(32) + HELLO[43:]),
    "session id": hello(session_id=bytes(32)),
    "version of the record": record(22, HELLO[5:], 0x03FF),
    "keys": hello(*EXTENSIONS[:-1], key_share((29, b"c" * 32), (23, b"d" * 65))),
}


@pytest.mark.parametrize("other", ALIKE.values(), ids=ALIKE)
def test_what_no_event_contains_does_not_change_the_signature(kernel: Kernel, other: bytes) -> None:
    assert other != HELLO
    emit(kernel, Talk())
    assert sent(kernel, Talk(client_port=41_000), other) == []


def changed(at: int, extension: tuple[int, bytes]) -> bytes:
    return hello(*EXTENSIONS[:at], extension, *EXTENSIONS[at + 1 :])


OTHERS = {
    "version": hello(version=0x0302),
    "suites": hello(suites=u16(0x1301, 0xC030)),
    "compression": hello(compression=b"\1\0"),
    "no session id": hello(session_id=b""),
    "order": hello(*reversed(EXTENSIONS)),
    "one less": hello(*EXTENSIONS[:-1]),
    "one more": hello(*EXTENSIONS, (23, b"")),
    "name": changed(0, (0, vector(2, b"\0" + vector(2, b"decoy.exampla")))),
    "groups": changed(1, (10, vector(2, u16(29, 24)))),
    "algorithms": changed(2, (13, vector(2, u16(0x0403, 0x0805)))),
    "protocol": changed(3, (16, vector(2, vector(1, b"h3")))),
    "ticket": changed(4, (35, b"ticket")),
    "versions": changed(5, (43, vector(1, u16(0x0304, 0x0302)))),
    "key's group": changed(6, key_share((29, b"a" * 32), (24, b"b" * 65))),
    "one key": changed(6, key_share((29, b"a" * 32))),
    "psk": hello(*EXTENSIONS, (41, bytes(60))),
    "early data": hello(*EXTENSIONS, (42, b"")),
    "ECH": hello(*EXTENSIONS, (0xFE0D, bytes(60))),
    "unknown extension": hello(*EXTENSIONS, (0x5A5B, b"1")),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_an_event_contains_changes_the_signature(kernel: Kernel, other: bytes) -> None:
    emit(kernel, Talk())
    assert signature(kernel, Talk(client_port=41_000), other)


def test_no_two_words_undo_each_other(kernel: Kernel) -> None:
    """These flipped bits cancel out in a hash by multiplication alone, whatever its seed."""
    suites = bytearray(u16(*range(0x1301, 0x1311)))
    one = hello(suites=bytes(suites))
    # Words of eight bytes begin with the list's length.
    suites[5] ^= 0x80
    suites[13] ^= 0x80
    suites[10] ^= 0x04
    emit(kernel, Talk(), one)
    assert signature(kernel, Talk(client_port=41_000), hello(suites=bytes(suites)))


UNUSUAL = {
    "cut off": HELLO[:-1],
    "a byte after it": HELLO + b"\0",
    "no extensions": wire(client_hello(session_id=SESSION_ID)),
    "two messages": record(22, HELLO[5:] * 2),
    "two records": record(22, HELLO[5:100]) + record(22, HELLO[100:]),
    "a ServerHello's type": record(22, b"\x02" + HELLO[6:]),
    "session id of 33": hello(session_id=bytes(33)),
    "too long": hello(*EXTENSIONS, (0x1234, bytes(1_024))),
    "too many steps": hello(*[(n, b"") for n in range(100, 300)]),
    "an extension's length": changed(0, SNI).replace(b"\0\x12\0\x10", b"\1\x12\0\x10"),
    "key list's length": changed(6, (51, u16(99) + SHARES[1][2:])),
    "a key's length": changed(6, (51, SHARES[1][:4] + b"\xff\xff" + SHARES[1][6:])),
}


@pytest.mark.parametrize("other", UNUSUAL.values(), ids=UNUSUAL)
def test_what_does_not_fit_is_always_sampled(kernel: Kernel, other: bytes) -> None:
    assert sum(len(sample.payload) for sample in sent(kernel, Talk(), other)) == len(other)
    kernel.feed(Wait(SECOND))
    assert signature(kernel, Talk(client_port=41_000), other) == 0


@pytest.mark.parametrize("version", [0x0203, 0x0405])
def test_what_is_no_tls_is_no_hello(kernel: Kernel, version: int) -> None:
    emit(kernel, Talk())
    assert sent(kernel, Talk(client_port=41_000), record(22, HELLO[5:], 0x0203)) == []
    assert "hellos_suppressed" not in kernel.raised()


def test_in_two_segments_or_after_other_bytes_it_is_sampled(kernel: Kernel) -> None:
    emit(kernel, Talk())
    halves = HELLO[:100], HELLO[100:]
    assert [s.payload for s in sent(kernel, Talk(client_port=41_000), *halves)] == [*halves]
    assert len(sent(kernel, Talk(client_port=41_001), b"STARTTLS\r\n", HELLO)) == 1


def after_suppressed(kernel: Kernel, *more: Sequence[bytes]) -> tuple[Talk, list[SegmentSample]]:
    emit(kernel, Talk())
    talk = Talk(client_port=41_000)
    assert sent(kernel, talk, HELLO) == []
    kernel.feed(*(frame for frames in more for frame in frames))
    return talk, segments(kernel)


def test_the_sample_of_the_servers_answer_names_the_suppressed_hello(kernel: Kernel) -> None:
    talk = Talk(client_port=41_000)
    answer = talk.s("PA", 1, 1 + len(HELLO), SERVER_HELLO + CHANGE_CIPHER_SPEC + APPLICATION_DATA)
    _, (sample,) = after_suppressed(kernel, [answer])
    assert (sample.payload, sample.hello_suppressed) == (SERVER_HELLO, True)
    (value,) = (
        value
        for _, value in kernel.loaded.maps["flows"].items()
        if abi.FLOW_BORN.unpack_from(value) == (sample.born_ns,)
    )
    suppressed = flow_suppressed_hello(value, SETTINGS["seed"])
    kernel.now_ns += 400 * SECOND
    assert (
        suppressed.signature == sample.hello == signature(kernel, Talk(client_port=42_000), HELLO)
    )
    assert suppressed.end_seq == talk.client_iss + 1 + len(HELLO)
    assert suppressed.has_session_id(SESSION_ID)
    assert not suppressed.has_session_id(SESSION_ID[:-1])
    assert not suppressed.has_session_id(b"")


def test_retransmissions_of_a_suppressed_hello_are_suppressed(kernel: Kernel) -> None:
    talk, at = Talk(client_port=41_000), 1 + len(HELLO)
    again = [
        talk.c("PA", 1, 1, HELLO),
        talk.s("A", 1, at),
        talk.c("PA", 51, 1, HELLO[50:]),
        talk.c("PA", 1, 1, other_hello()),
    ]
    assert after_suppressed(kernel, again)[1] == []


def other_hello() -> bytes:
    """Another one of the same length."""
    other = HELLO.replace(b"decoy.example", b"other.example")
    assert other != HELLO
    return other


@pytest.mark.parametrize("size", [len(HELLO), 50, 7])
def test_a_suppressed_hello_releases_no_other_bytes_at_its_place(kernel: Kernel, size: int) -> None:
    """Sent as a decoy before another one, it conceals neither."""
    talk, other = Talk(client_port=41_000), other_hello()
    parts = [talk.c("PA", 1 + at, 1, other[at : at + size]) for at in range(0, len(other), size)]
    _, samples = after_suppressed(kernel, parts)
    assert b"".join(sample.payload for sample in samples) == other
    assert all(sample.hello_suppressed for sample in samples)
    assert kernel.raised()["hellos_suppressed"] == 1


def test_a_client_certificate_after_it_is_sampled(kernel: Kernel) -> None:
    talk, at = Talk(client_port=41_000), 1 + len(HELLO)
    frames = [
        talk.s("PA", 1, at, SERVER_HELLO),
        talk.c("A", at, 1 + len(SERVER_HELLO), CERTIFICATE[:MSS]),
        talk.c("PA", at + MSS, 1 + len(SERVER_HELLO), CERTIFICATE[MSS:]),
    ]
    _, samples = after_suppressed(kernel, frames)
    sampled = b"".join(sample.payload for sample in samples if sample.sender == samples[1].sender)
    assert sampled == CERTIFICATE
    assert all(sample.hello_suppressed for sample in samples)


@pytest.mark.parametrize("size", range(34))
def test_session_ids_are_hashed_as_the_agent_does(kernel: Kernel, size: int) -> None:
    value = bytes(range(200, 200 + size))
    sent(kernel, Talk(), hello(session_id=value))
    ((_, flow),) = kernel.loaded.maps["flows"].items()
    suppressed = flow_suppressed_hello(flow, SETTINGS["seed"])
    known = 0 < size <= 32
    assert suppressed.session_id == (session_id_hash(value, SETTINGS["seed"]) if known else 0)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hellos_of_one_signature_make_equal_events(kernel: Kernel, data: st.DataObject) -> None:
    """Any bytes may differ, lengths and kinds too."""
    kernel.reset()
    found: dict[int, bytes] = {}
    original = data.draw(st.sampled_from([HELLO, *ALIKE.values(), *OTHERS.values()]))
    for port in range(40_000, 40_008):
        body = bytearray(original[9:])
        for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
            body[at] = data.draw(st.integers(0, 3) | st.integers(0, 255))
        known = signature(kernel, Talk(client_port=port), wire(bytes(body)))
        if not known:
            continue
        key = client_key(bytes(body))
        assert key is not None
        assert found.setdefault(known, key) == key
