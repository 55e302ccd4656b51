"""Nothing honest is refused: damaged captures, lost and swapped packets, probes, firewalls.

Every conversation is one that a receiver takes as a whole. A capture may lack any part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from struct import pack

import pytest

from tests.support.bpf_frames import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT_HELLO,
    DECKY,
    DECKY6,
    MSS,
    SERVER_HELLO,
    TALK6,
    Talk,
    summed,
)
from tests.support.bpf_harness import Kernel

pytestmark = pytest.mark.root

SCALE = 7
DATA = bytes(1_000)
ROUNDS = 6
RULES = (
    *("forged", "window", "no_ack", "ack_unsent", "ack_old", "rst", "synack", "after_fin"),
    *("signature", "timestamp", "checksum", "ip_checksum"),
)

Frames = list[tuple[bool, bytes]]
"""Whether the decky sends it, and the frame."""

TALKS = {
    "IPv4, server": Talk(),
    "IPv6, server": TALK6,
    "IPv4, client": Talk(DECKY, "203.0.113.5"),
    "IPv6, client": Talk(DECKY6, "2001:db8:3::5"),
    "numbers that wrap": Talk(client_iss=0xFFFF_FF00, server_iss=0xFFFF_F000),
}
EACH = pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS)


class Honest:
    """Two ends that do all by the rules, with SACK, scaled windows and timestamps."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.frames: Frames = []
        self.sent = {True: 0, False: 0}
        """By end (True: the client), where its stream goes on."""
        self._clock = {True: 70_000, False: 0xFFFF_FFF0}
        self._heard = {True: 0, False: 0}
        self._decky_is_client = talk.client in (DECKY, DECKY6)

    def send(
        self,
        client: bool,
        flags: str = "A",
        data: bytes = b"",
        *,
        at: int | None = None,
        ack: int | None = None,
        window: int = 500,
    ) -> None:
        """A segment of an end at the end of its stream, or at another place."""
        self._clock[client] += 3
        stamp = b"\x01\x01" + pack(
            "!BBII", 8, 10, self._clock[client] & 0xFFFF_FFFF, self._heard[client]
        )
        self._heard[not client] = self._clock[client] & 0xFFFF_FFFF
        options = stamp
        if "S" in flags:
            options = MSS + b"\x04\x02\x01\x01" + b"\x01\x03\x03" + bytes([SCALE]) + stamp
            window = 64_240
        make = self.talk.c if client else self.talk.s
        seq = self.sent[client] if at is None else at
        acked = (self.sent[not client] if ack is None else ack) if "A" in flags else None
        frame = make(flags, seq, acked, data, options, window=window)
        self.frames.append((client == self._decky_is_client, summed(frame)))
        if at is None:
            self.sent[client] += len(data) + ("S" in flags) + ("F" in flags)

    def open(self) -> Honest:
        self.send(True, "S")
        self.send(False, "SA")
        self.send(True)
        return self

    def dialogue(self) -> Honest:
        """TLS, data with delayed ACKs, keep-alives and a late retransmission in each direction."""
        self.send(True, "PA", CLIENT_HELLO)
        self.send(False)
        self.send(False, "PA", SERVER_HELLO + CHANGE_CIPHER_SPEC + APPLICATION_DATA)
        self.send(True, "PA", CHANGE_CIPHER_SPEC + APPLICATION_DATA)
        for n in range(ROUNDS):
            sender = n % 2 == 0
            self.send(sender, "A", DATA)
            self.send(sender, "PA", DATA)
            self.send(not sender, window=500 + n)
            self.send(sender, "A", at=self.sent[sender] - 1)
            self.send(not sender)
            self.send(sender, "PA", DATA, at=self.sent[sender] - len(DATA))
            self.send(not sender)
        return self

    def close(self, first: bool = True) -> Honest:
        self.send(first, "FA")
        self.send(not first)
        self.send(not first, "FA")
        self.send(first)
        return self


def refused(kernel: Kernel) -> set[str]:
    """The rules that refused a frame, and "anomaly" for each anomaly but an old SYN."""
    counts = kernel.raised()
    found = {rule for rule in RULES if counts.get(f"refused_{rule}", 0)}
    assert bool(counts.get("frames_refused", 0)) == bool(found)
    if counts.get("anomalies", 0):
        found.add("anomaly")
    return found


def variants(talk: Talk) -> Iterable[Talk]:
    """Talks that differ in a port, so that they share no entry of a table."""
    return (replace(talk, client_port=port) for port in range(20_000, 30_000))


def damaged(
    kernel: Kernel, talk: Talk, damage: Callable[[Frames, int], Frames], steps: Sequence[int]
) -> dict[int, set[str]]:
    """Feed a conversation for each step, damaged; the rules that refused something, by step."""
    seen: dict[int, set[str]] = {}
    for step, each in zip(steps, variants(talk), strict=False):
        whole = Honest(each).open().dialogue().close().frames
        kernel.feed(*(frame for _, frame in damage(whole, step)))
        kernel.samples()
        rules = refused(kernel)
        if rules:
            seen[step] = rules
            kernel.reset()
    return seen


LENGTH = len(Honest(Talk()).open().dialogue().close().frames)


@EACH
def test_a_whole_capture(kernel: Kernel, talk: Talk) -> None:
    assert damaged(kernel, talk, lambda frames, _: frames, [0]) == {}
    assert kernel.raised()["handshakes"] == 1
    assert kernel.flow().totals.close


@EACH
def test_a_capture_that_starts_in_the_middle(kernel: Kernel, talk: Talk) -> None:
    assert damaged(kernel, talk, lambda frames, at: frames[at:], range(1, LENGTH)) == {}


@EACH
@pytest.mark.parametrize("of_decky", [True, False], ids=["of the decky", "of its peer"])
def test_a_capture_of_one_direction(kernel: Kernel, talk: Talk, of_decky: bool) -> None:
    def one(frames: Frames, at: int) -> Frames:
        return [frame for frame in frames[at:] if frame[0] == of_decky]

    assert damaged(kernel, talk, one, range(LENGTH)) == {}


@EACH
def test_a_capture_with_a_lost_packet(kernel: Kernel, talk: Talk) -> None:
    """Only what a decky sent and the capture lost looks like never sent (docs/evasion.md)."""
    whole = Honest(talk).open().dialogue().close().frames

    def lose(frames: Frames, at: int) -> Frames:
        return frames[:at] + frames[at + 1 :]

    for step, rules in damaged(kernel, talk, lose, range(LENGTH)).items():
        assert whole[step][0], (step, rules)
        assert rules <= {"ack_unsent", "anomaly"}, step


@EACH
def test_a_capture_that_has_packets_twice(kernel: Kernel, talk: Talk) -> None:
    def twice(frames: Frames, _: int) -> Frames:
        return [frame for frame in frames for _ in range(2)]

    assert damaged(kernel, talk, twice, [0]) == {}


@EACH
def test_a_capture_that_swaps_neighbours(kernel: Kernel, talk: Talk) -> None:
    """Only what a decky sends may be needed by the frame that the capture has before it."""

    def swap(frames: Frames, at: int) -> Frames:
        return [*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]]

    whole = Honest(talk).open().dialogue().close().frames
    for step, rules in damaged(kernel, talk, swap, range(LENGTH - 1)).items():
        assert (whole[step][0], whole[step + 1][0]) == (True, False), (step, rules)
        assert rules <= {"ack_unsent", "anomaly"}, step


@EACH
@pytest.mark.parametrize("size", [54, 68, 96, 128, 256])
def test_a_capture_with_cut_frames(kernel: Kernel, talk: Talk, size: int) -> None:
    def cut(frames: Frames, _: int) -> Frames:
        return [(of_decky, frame[:size]) for of_decky, frame in frames]

    assert damaged(kernel, talk, cut, [0]) == {}


@EACH
@pytest.mark.parametrize("lost", [0, 1], ids=["SYN", "SYN-ACK"])
def test_a_window_whose_scale_is_unknown(kernel: Kernel, talk: Talk, lost: int) -> None:
    """The other end sends what the largest scale admits."""
    honest = Honest(talk).open()
    client = talk.client not in (DECKY, DECKY6)
    honest.send(not client, window=60_000)
    for n in range(60):
        honest.send(client, "A", DATA, at=1 + n * 100_000)
    kernel.feed(*(frame for n, (_, frame) in enumerate(honest.frames) if n != lost))
    assert refused(kernel) == set()


@EACH
def test_probes_of_a_closed_window(kernel: Kernel, talk: Talk) -> None:
    honest = Honest(talk).open()
    remote = talk.client not in (DECKY, DECKY6)
    honest.send(remote, "PA", DATA)
    honest.send(not remote, window=0)
    for _ in range(3):
        # Linux probes with an old number, others with the next byte.
        honest.send(remote, at=honest.sent[remote] - 1)
        honest.send(not remote, window=0)
        honest.send(remote, "A", b"x", at=honest.sent[remote])
        honest.send(not remote, window=0)
    honest.send(not remote, window=500)
    honest.send(remote, "PA", DATA)
    honest.send(not remote)
    kernel.feed(*(frame for _, frame in honest.close(remote).frames))
    assert refused(kernel) == set()


@EACH
def test_probes_of_a_decky_whose_peer_closed_its_window(kernel: Kernel, talk: Talk) -> None:
    honest = Honest(talk).open()
    decky = talk.client in (DECKY, DECKY6)
    honest.send(decky, "PA", DATA)
    honest.send(not decky, window=0)
    for _ in range(3):
        honest.send(decky, at=honest.sent[decky] - 1)
        honest.send(not decky, window=0)
    honest.send(not decky, window=500)
    honest.send(decky, "PA", DATA)
    honest.send(not decky)
    kernel.feed(*(frame for _, frame in honest.close().frames))
    assert refused(kernel) == set()


@EACH
@pytest.mark.parametrize("flags", ["R", "RA"])
@pytest.mark.parametrize("to_decky", [True, False], ids=["to the decky", "to its peer"])
def test_a_reset_by_a_firewall(kernel: Kernel, talk: Talk, flags: str, to_decky: bool) -> None:
    """It has the number that the receiver waits for, at any time of the connection."""
    remote = talk.client not in (DECKY, DECKY6)
    sender = remote if to_decky else not remote
    for rounds, each in zip(range(LENGTH), variants(talk), strict=False):
        honest = Honest(each).open()
        for n in range(rounds % 7):
            honest.send(n % 2 == 0, "PA", DATA)
            honest.send(n % 2 == 1)
        honest.send(sender, flags, at=honest.sent[sender])
        # A firewall may reset both ends, and one of them may have sent on.
        honest.send(not sender, flags, at=honest.sent[not sender])
        kernel.feed(*(frame for _, frame in honest.frames))
        kernel.samples()
    assert refused(kernel) == set()


@EACH
@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_a_port_that_is_used_again(kernel: Kernel, talk: Talk, how: str) -> None:
    """With numbers above or below those of the connection before."""
    for offset in (0, 1 << 20, 1 << 31, 0xFFFF_0000):
        numbers = (talk.client_iss + offset) & 0xFFFF_FFFF, (talk.server_iss - offset) % 2**32
        again = replace(talk, client_iss=numbers[0], server_iss=numbers[1])
        honest = Honest(again).open().dialogue()
        if how == "FIN":
            honest.close()
        else:
            honest.send(True, "R", at=honest.sent[True])
        kernel.feed(*(frame for _, frame in honest.frames))
        kernel.samples()
    assert refused(kernel) == set()
    assert kernel.raised()["handshakes"] == 4


@EACH
def test_both_ends_close_at_the_same_time(kernel: Kernel, talk: Talk) -> None:
    honest = Honest(talk).open().dialogue()
    before = dict(honest.sent)
    honest.send(True, "FA")
    honest.send(False, "FA", ack=before[True])
    honest.send(True)
    honest.send(False)
    kernel.feed(*(frame for _, frame in honest.frames))
    assert refused(kernel) == set()


@EACH
def test_data_after_the_other_end_has_closed(kernel: Kernel, talk: Talk) -> None:
    """Half-closed for long: data, ACKs and keep-alives go on in one direction."""
    for client, each in zip((True, False), variants(talk), strict=False):
        honest = Honest(each).open()
        honest.send(client, "FA")
        honest.send(not client)
        for _ in range(5):
            honest.send(not client, "PA", DATA)
            honest.send(client)
            honest.send(not client, at=honest.sent[not client] - 1)
            honest.send(client)
        honest.send(not client, "FA")
        honest.send(client)
        kernel.feed(*(frame for _, frame in honest.frames))
    assert refused(kernel) == set()


@EACH
def test_an_end_that_has_closed_resets_data_on_their_way(kernel: Kernel, talk: Talk) -> None:
    """It is behind what the end has sent, so the receiver drops it. It is no anomaly."""
    for client, each in zip((True, False), variants(talk), strict=False):
        honest = Honest(each).open()
        honest.send(not client, "PA", DATA)
        honest.send(client, "FA", ack=1)
        honest.send(client, "R", at=honest.sent[client])
        honest.send(not client, "PA", DATA)
        honest.send(client, "R", at=honest.sent[client])
        kernel.feed(*(frame for _, frame in honest.frames))
    assert refused(kernel) <= {"rst"}


@EACH
def test_lost_packets_of_the_network(kernel: Kernel, talk: Talk) -> None:
    """They are sent again, after others, with the timestamps of that time."""
    for client, each in zip((True, False), variants(talk), strict=False):
        honest = Honest(each).open()
        for n in range(1, 6):
            honest.send(client, "A", DATA, at=1 + n * len(DATA))
            honest.send(not client, ack=1)
        honest.send(client, "A", DATA, at=1)
        honest.sent[client] = 1 + 6 * len(DATA)
        honest.send(not client)
        kernel.feed(*(frame for _, frame in honest.close().frames))
    assert refused(kernel) == set()
