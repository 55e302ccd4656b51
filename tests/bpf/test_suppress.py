"""The kernel suppresses what the agent emitted of a client and a service, and only that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.hashes import service_signature, slots_of
from deckwire.abi.samples import EndSample, HandshakeSample
from deckwire.tables.suppression import (
    Suppression,
)
from tests.support.bpf_frames import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT,
    CLIENT6,
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    DECKY_B,
    SERVER_HELLO,
    TALK6,
    Talk,
)
from tests.support.bpf_harness import MS, SECOND, SETTINGS, Kernel, Wait

pytestmark = pytest.mark.root

WINDOW = ("source", "event", "fingerprint")
ENCRYPTED = CHANGE_CIPHER_SPEC + APPLICATION_DATA
DATA = b"a line\r\n"
TALKS = pytest.mark.parametrize(
    "talk",
    [
        Talk(),
        TALK6,
        Talk(client_port=443, server_port=40_000),
        Talk(client_port=53, server_port=53),
        Talk(DECKY, CLIENT, client_port=53, server_port=53),
        replace(TALK6, client_port=53, server_port=53),
        Talk(DECKY6, CLIENT6, client_port=53, server_port=53),
    ],
    ids=["v4", "v6", "other end", "equal ports", "other order", "v6, equal ports", "v6, other"],
)
OTHERS = {
    "another port": Talk(server_port=444),
    "another decky": Talk(server=DECKY_B),
    "another client": Talk(client="192.0.2.77"),
    "the other direction": Talk(DECKY, CLIENT),
}


def whole(talk: Talk) -> list[bytes]:
    """A connection with one line of data."""
    return [*talk.opened(), talk.c("PA", 1, 1, DATA), *talk.closed(1 + len(DATA))]


def tls(talk: Talk, *, finished: bool) -> list[bytes]:
    """A handshake in which both sides begin to encrypt, or only the server."""
    hello, answer = CLIENT_HELLO, SERVER_HELLO + ENCRYPTED
    last = ENCRYPTED if finished else b""
    frames = [
        *talk.opened(),
        talk.c("PA", 1, 1, hello),
        talk.s("PA", 1, 1 + len(hello), answer),
    ]
    if last:
        frames.append(talk.c("PA", 1 + len(hello), 1 + len(answer), last))
    return [*frames, *talk.closed(1 + len(hello + last), 1 + len(answer))]


def emit(kernel: Kernel, talk: Talk, events: Sequence[int], seconds: int = 300) -> None:
    """Run the connection and suppress these events of later ones, as the agent does."""
    kernel.feed(*whole(talk))
    samples = kernel.samples()
    (handshake,) = (s for s in samples if isinstance(s, HandshakeSample))
    (end,) = (s for s in samples if isinstance(s, EndSample))
    assert handshake.client == end.record.client
    suppression = Suppression(kernel.loaded.maps["service_seen"])
    until_ns = kernel.now_ns + seconds * SECOND
    for event in events:
        signature = service_signature(end.key, end.record.client, SETTINGS["seed"], event)
        assert not list(suppression.open(signature, WINDOW, until_ns))


@TALKS
def test_an_equal_handshake_is_suppressed(kernel: Kernel, talk: Talk) -> None:
    emit(kernel, talk, [abi.SERVICE_HANDSHAKE])
    kernel.feed(Wait(2 * SECOND), *whole(replace(talk, client_iss=9_000)))
    assert kernel.submitted() == "syn end:fin"
    assert kernel.raised()["handshakes_suppressed"] == 1
    assert kernel.raised()["handshakes"] == 2


@TALKS
def test_an_equal_end_is_suppressed(kernel: Kernel, talk: Talk) -> None:
    emit(kernel, talk, [abi.SERVICE_FLOW])
    kernel.feed(Wait(2 * SECOND), *whole(replace(talk, client_iss=9_000)))
    assert kernel.submitted() == "syn handshake"
    assert kernel.raised()["ends_suppressed"] == 1
    # Nothing is left for a sweep to emit.
    assert kernel.flow().totals.end_sent


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_service_or_client_is_sampled(kernel: Kernel, other: Talk) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW])
    kernel.feed(Wait(2 * SECOND), *whole(other))
    assert kernel.submitted() == "syn handshake end:fin"


def test_a_suppression_window_closes(kernel: Kernel) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW], seconds=10)
    kernel.feed(Wait(10 * SECOND), *whole(Talk(client_port=40_001)))
    assert kernel.submitted() == "syn handshake end:fin"


def test_signatures_that_share_a_slot_are_suppressed_side_by_side(kernel: Kernel) -> None:
    """Few slots and many clients: the kernel looks where the agent has opened the window.

    A client without a window has lost it to two others, which have both of its slots.
    """
    talks = [Talk(client=f"192.0.2.{n}") for n in range(1, 33)]
    first: set[int] = set()
    suppression: Suppression[str] = Suppression(kernel.loaded.maps["service_seen"])
    signatures = []
    for talk in talks:
        kernel.feed(*whole(talk))
        (end,) = (s for s in kernel.samples() if isinstance(s, EndSample))
        signatures.append(
            service_signature(end.key, end.record.client, SETTINGS["seed"], abi.SERVICE_HANDSHAKE)
        )
        slots = slots_of(signatures[-1], kernel.loaded.maps["service_seen"].max_entries)
        first.add(slots[0])
        suppression.open(signatures[-1], talk.client, kernel.now_ns + 300 * SECOND)
    kept = [suppression.suppresses(each, kernel.now_ns) for each in signatures]
    # With one slot for each, only as many would be kept as there are different ones.
    assert sum(kept) > len(first)
    for talk, is_kept in zip(talks, kept, strict=True):
        kernel.feed(Wait(2 * SECOND), *whole(replace(talk, client_port=50_000, client_iss=9_000)))
        assert kernel.submitted() == ("syn end:fin" if is_kept else "syn handshake end:fin")


def test_without_dedup_everything_is_sampled(kernel: Kernel) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW])
    kernel.settings(dedup=0)
    kernel.feed(Wait(2 * SECOND), *whole(Talk(client_port=40_001)))
    assert kernel.submitted() == "syn handshake end:fin"


def test_suppressed_samples_are_counted_with_their_times(kernel: Kernel) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE])
    for n in range(1, 4):
        kernel.feed(Wait(2 * SECOND), *whole(Talk(client_port=40_000 + n)))
    last_ns = kernel.now_ns - 4 * MS
    (seen,) = (
        abi.SEEN.parse(value)
        for _, value in kernel.loaded.maps["service_seen"].items()
        if any(value)
    )
    assert seen.suppressed == 3
    assert (seen.first_ns, seen.last_ns) == (last_ns - 2 * (2 * SECOND + 6 * MS), last_ns)
    assert seen.deckies.bit_count() == 1
    kernel.samples()


def test_a_handshake_whose_syn_was_not_sampled_is_sampled(kernel: Kernel) -> None:
    """Its sample is the only one that has the SYN."""
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE])
    kernel.settings(syn_cost_ns=SECOND, syn_burst_ns=0)
    kernel.feed(Wait(2 * SECOND), *whole(Talk(client_port=40_001)))
    assert kernel.raised()["syn_over_budget"] == 1
    assert kernel.submitted() == "handshake end:fin"


def test_a_handshake_whose_syn_was_suppressed_tentatively_is_sampled(kernel: Kernel) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE])
    kernel.feed(*whole(Talk(client_port=40_001)))
    assert kernel.raised()["syn_suppressed"] == 1
    assert kernel.submitted() == "handshake end:fin"


@pytest.mark.parametrize(
    ("frames", "end"),
    [
        (lambda t: [*t.opened(), t.c("RA", 1, 1)], "end:rst"),
        (lambda t: [*t.opened(), *t.closed()], "end:fin"),
        (lambda t: [*t.opened(), t.c("PA", 1, 1, DATA), t.c("R", 1 + len(DATA))], ""),
    ],
    ids=["reset without data", "closed without data", "reset after data"],
)
def test_a_connection_without_data_may_be_a_scan(kernel: Kernel, frames: object, end: str) -> None:
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW])
    assert callable(frames)
    kernel.feed(Wait(2 * SECOND), *frames(Talk(client_port=40_001)))
    assert kernel.submitted() == f"syn {end}".rstrip()


def test_an_end_is_sampled_while_the_agent_waits_for_it(kernel: Kernel) -> None:
    """The agent then emits what it has of a handshake that was cut off."""
    emit(kernel, Talk(), [abi.SERVICE_HANDSHAKE, abi.SERVICE_FLOW])
    kernel.feed(Wait(2 * SECOND), *tls(Talk(client_port=40_001), finished=True))
    assert not any(isinstance(sample, EndSample) for sample in kernel.samples())
    kernel.feed(*tls(Talk(client_port=40_002), finished=False))
    (end,) = (sample for sample in kernel.samples() if isinstance(sample, EndSample))
    assert end.record.close == "fin"
