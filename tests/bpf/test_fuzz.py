"""A fuzzer of the BPF programs: random frames, mutated and cut, into colliding conversations.

``DECKWIRE_FUZZ_SECONDS`` is how long it runs, ``DECKWIRE_FUZZ_SEED`` repeats a run: the frames
depend on nothing else.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from deckwire.abi import structs as abi
from deckwire.tcp.addresses import MAPPED_PREFIX
from tests.bpf.test_conservation import assert_tables_sound
from tests.support.bpf_frames import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY6_B,
    DECKY_B,
    ETH_IPV4,
    ETH_IPV6,
    LINUX_OPTIONS,
    QINQ,
    STRANGER,
    TCP,
    VLAN,
    Talk,
    ethernet,
    extension,
    fragment,
    hello,
    ipv4,
    ipv6,
    record,
    tcp,
)
from tests.support.bpf_harness import FLOW, MS, SECOND, Kernel, Wait

pytestmark = pytest.mark.root

SECONDS = float(os.environ.get("DECKWIRE_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("DECKWIRE_FUZZ_SEED") or secrets.randbits(32))

BATCH, BATCHES = 400, 10
"""Frames between two reads of the rings, which hold the samples of more, and reads in a round."""
SHORTEST4, SHORTEST6, LONGEST = 34, 54, 3_500
FLAGS = ["S"] * 6 + ["SA"] * 6 + ["A"] * 20 + ["PA"] * 12 + ["FA"] * 4
FLAGS += ["R", "RA", "SF", "", "FSRPAUECN"]
EXTENSIONS = [0, 43, 44, 51, 60]
WAITS = [0, 1, 1_000, MS] * 20 + [20 * MS, SECOND, 200 * SECOND, -SECOND]

HOST = "198.51.100.1"
OWN_ADDRESS = MAPPED_PREFIX + IPv4Address(HOST).packed
OWN_MAC = bytes.fromhex("020000000002 0000")
"""The source of every frame that is not mutated."""


class Fuzzer:
    """Makes the same frames for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._talks = [
            Talk(client_port=port, server_port=443, client_iss=iss, server_iss=7 * iss)
            for port, iss in ((40_000, 1_000), (200, 0xFFFF_FF00), (40_001, 0x7FFF_FFF0))
        ]
        self._talks += [replace(t, client=CLIENT6, server=DECKY6) for t in self._talks]
        self._talks += [Talk(DECKY, DECKY_B), Talk(DECKY6, DECKY6_B), Talk(CLIENT, STRANGER)]
        self._talks.append(Talk(HOST, DECKY))
        self._last = [self._talks[0].c("S")]

    def frame(self) -> bytes:
        pick = self._random.random()
        if pick < 0.75:
            frame = self._segment()
        elif pick < 0.92:
            frame = self._mutated(self._random.choice(self._last))
        elif pick < 0.98:
            frame = self._odd()
        else:
            frame = self._random.randbytes(self._random.randint(SHORTEST4, 300))
        frame = self._fit(frame)
        self._last = [*self._last[-20:], frame]
        return frame

    def context(self) -> dict[str, int]:
        """What the stack says about the frame."""
        rng = self._random
        if rng.random() < 0.9:
            return {}
        return {"gso_segs": rng.choice([0, 1, 3, 45]), "gso_size": rng.choice([1, 100, 1_448])}

    def wait_ns(self) -> int:
        return self._random.choice(WAITS)

    def egress(self) -> bool:
        return self._random.random() < 0.3

    def setting(self) -> dict[str, int]:
        rng = self._random
        return {
            "seed": rng.getrandbits(64),
            "dedup": rng.randrange(2),
            "vepa": rng.randrange(2),
            "own_host": rng.randrange(2),
            "checksums": rng.randrange(2),
            "syn_cost_ns": rng.choice([1, MS, SECOND]),
            "syn_burst_ns": rng.choice([MS, 2 * SECOND]),
            "handshake_cost_ns": rng.choice([1, MS, SECOND]),
            "flows_per_source": rng.choice([1, 65_536]),
        }

    def _segment(self) -> bytes:
        """A plausible segment of one of a few conversations."""
        rng = self._random
        talk = rng.choice(self._talks)
        side = rng.choice([talk.c, talk.s])
        flags = rng.choice(FLAGS)
        seq = 0 if "S" in flags and rng.random() < 0.8 else self._near()
        ack = 1 if rng.random() < 0.6 else self._near()
        data = b"" if "S" in flags and rng.random() < 0.9 else self._payload()
        options = LINUX_OPTIONS if rng.random() < 0.3 else self._options()
        return side(flags, seq, ack, data, options)

    def _near(self) -> int:
        rng = self._random
        near = [1, 1, 1, 2, 201, 401, rng.randrange(3_000), -1, rng.randrange(1 << 32)]
        return rng.choice(near)

    def _payload(self) -> bytes:
        rng = self._random
        parts = [
            b"",
            b"x",
            hello(1),
            hello(2),
            hello(rng.choice([1, 2, 11]), rng.randint(9, 1_500)),
            ALERT,
            CHANGE_CIPHER_SPEC,
            APPLICATION_DATA,
            record(rng.randrange(18, 26), rng.randbytes(rng.randrange(60)), rng.randrange(0x400)),
            rng.randbytes(rng.randrange(1_500)),
            b"\x16\x03\x01" * rng.randrange(1, 30),
        ]
        data = b"".join(rng.choices(parts, k=rng.randrange(4)))
        if rng.random() < 0.3:
            start = rng.randrange(len(data) + 1)
            data = data[start : start + rng.choice([1, 2, 5, 6, 200])]
        return data[:3_000]

    def _options(self) -> bytes:
        rng = self._random
        if rng.random() < 0.5:
            return b""
        return rng.randbytes(4 * rng.randrange(11))

    def _odd(self) -> bytes:
        """Tags, extension headers, fragments and lengths that are wrong."""
        rng = self._random
        segment = tcp(
            self._payload(),
            rng.choice([40_000, 200]),
            443,
            seq=self._near(),
            ack=self._near(),
            flags=rng.choice(FLAGS),
            options=self._options(),
            offset=rng.choice([None, None, rng.randrange(16)]),
        )
        ends4 = rng.choice([(CLIENT, DECKY), (DECKY, CLIENT), (DECKY, DECKY_B)])
        ends6 = rng.choice([(CLIENT6, DECKY6), (DECKY6, CLIENT6), (DECKY6, DECKY6_B)])
        if rng.random() < 0.5:
            packet = ipv4(
                segment,
                *ends4,
                protocol=rng.choice([TCP, TCP, TCP, rng.randrange(256)]),
                fragment=rng.choice([0, 0x4000, rng.randrange(1 << 16)]),
                options=bytes(4 * rng.randrange(11)),
                ihl=rng.choice([None, None, rng.randrange(16)]),
                total=rng.choice([None, None, 0, rng.randrange(1 << 16)]),
                version=rng.choice([4, 4, rng.randrange(16)]),
            )
        else:
            packet, following = segment, TCP
            kinds = rng.choices(EXTENSIONS, k=rng.randrange(10))
            if rng.random() < 0.05:  # more than Linux and the programs read
                kinds = [60] * 18
            for kind in kinds:
                if kind == 44:
                    more = rng.random() < 0.2
                    packet = fragment(following, packet, rng.choice([0, 0, 0, 5]), more)
                else:
                    packet = extension(kind, following, packet, 8 * rng.randint(1, 4))
                following = kind
            packet = ipv6(
                packet,
                *ends6,
                next_header=following,
                length=rng.choice([None, None, 0, rng.randrange(1 << 16)]),
            )
        ethertype = rng.choice([None, None, None, ETH_IPV4, ETH_IPV6])
        tags = [(rng.choice([VLAN, QINQ]), rng.randrange(1 << 16))] * rng.randrange(4)
        return ethernet(packet, ethertype, tags)

    def _mutated(self, frame: bytes) -> bytes:
        rng = self._random
        changed = bytearray(frame)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(12, 60)
            if at < len(changed):
                changed[at] = rng.choice([0, 255, changed[at] ^ 1 << rng.randrange(8)])
        pick = rng.random()
        if pick < 0.2:
            del changed[rng.randrange(len(changed)) :]
        elif pick < 0.3:
            changed += rng.randbytes(rng.randrange(200))
        elif pick < 0.35:
            changed += bytes(LONGEST)
        return bytes(changed)

    def _fit(self, frame: bytes) -> bytes:
        """Within the lengths that a test run takes."""
        shortest = SHORTEST6 if frame[12:14] == b"\x86\xdd" else SHORTEST4
        if len(frame) < shortest:
            frame = frame.ljust(shortest, b"\0")
            # Padding may have completed the type of IPv6.
            frame = frame.ljust(SHORTEST6 if frame[12:14] == b"\x86\xdd" else SHORTEST4, b"\0")
        return frame[:LONGEST]


def sweep(kernel: Kernel) -> None:
    """Delete the connections that have ended, as the agent does."""
    for name in ("flows", "midstream_flows"):
        table = kernel.loaded.maps[name]
        for key, value in list(table.items()):
            if FLOW.parse(value).totals.close:
                table.delete(key)


def fuzz(kernel: Kernel, seconds: float, seed: int) -> Counter[str]:
    """Runs for `seconds`, at least one round. Returns the sums of the programs' counters.

    Raises:
        AssertionError: a rule is broken; running again with the seed breaks it again.
    """
    fuzzer = Fuzzer(seed)
    sums: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while not sums or time.monotonic() < deadline:
        kernel.reset(**fuzzer.setting())
        kernel.loaded.maps["vepa_parents"].update((1).to_bytes(4, "little"), b"\1")
        kernel.loaded.maps["own_addresses"].update(OWN_ADDRESS, b"\1")
        kernel.loaded.maps["own_macs"].update(OWN_MAC, b"\1")
        for _ in range(BATCHES):
            for _ in range(BATCH):
                kernel.feed(
                    Wait(fuzzer.wait_ns()),
                    fuzzer.frame(),
                    egress=fuzzer.egress(),
                    **fuzzer.context(),
                )
            kernel.check()
            kernel.drop_frames()
            assert_tables_sound(kernel)
            sweep(kernel)
        sums.update(kernel.counters())
    return sums


def test_no_frame_breaks_a_rule(kernel: Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    print(f"seed {SEED}")  # shown if the test fails
    started = time.monotonic()
    sums = fuzz(kernel, SECONDS, SEED)
    elapsed = time.monotonic() - started
    frames = sum(sums[name] for name in abi.FRAME_COUNTERS)
    with capsys.disabled():
        print(f"\nfuzz: {frames:,} frames in {elapsed:.1f} s, seed {SEED}")
    if frames > 20_000:  # enough to have been everywhere
        assert {name for name in abi.FRAME_COUNTERS if not sums[name]} == set()


def test_the_smallest_rings_lose_and_count(tiny: Kernel) -> None:
    """The reader pauses. Lost samples are counted, the others are whole."""
    fuzzer = Fuzzer(SEED)
    tiny.settings(dedup=0, syn_cost_ns=1, handshake_cost_ns=1)
    for _ in range(3):
        for _ in range(4_000):
            tiny.feed(Wait(fuzzer.wait_ns()), fuzzer.frame())
        tiny.check()
        tiny.drop_frames()
        sweep(tiny)
    assert tiny.counters()["samples_lost"]


def test_a_seed_repeats_its_frames() -> None:
    def frames(fuzzer: Fuzzer) -> Sequence[bytes]:
        return [fuzzer.frame() for _ in range(500)]

    assert frames(Fuzzer(1)) == frames(Fuzzer(1)) != frames(Fuzzer(2))
