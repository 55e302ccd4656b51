"""Datagrams that a decky sends on its own: what is one, and what is only an answer."""

from __future__ import annotations

import pytest

from deckwire.abi.begun import Begun
from deckwire.tables.begun import BegunTable
from deckwire.tcp.addresses import address_text
from tests.bpf.test_probes import (
    ICMP,
    ICMP6,
    MAC,
    SCTP,
    SLOTS,
    from_decky,
    icmp,
    ip,
    sctp,
    to_decky,
    udp,
)
from tests.support.bpf_frames import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    ESP,
    UDP,
    ethernet,
    ipv4,
)
from tests.support.bpf_harness import SECOND, Kernel, Wait

pytestmark = pytest.mark.root

ASK, REPLY = udp(50_000, 53), udp(53, 50_000)


def begun(kernel: Kernel) -> list[Begun]:
    return BegunTable(kernel.loaded.maps).changed()


def where(one: Begun) -> tuple[str, str, int, int, int]:
    return address_text(one.decky), address_text(one.peer), one.protocol, one.port, one.datagrams


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize(
    ("about", "payload", "port", "decky_port"),
    [("udp", ASK, 53, 50_000), ("sctp", sctp(50_000, 53), 53, 50_000), ("echo", b"", 0, 0)],
)
def test_a_datagram_of_a_decky_is_kept_once(
    kernel: Kernel, six: bool, about: str, payload: bytes, port: int, decky_port: int
) -> None:
    protocol = {"udp": UDP, "sctp": SCTP}.get(about, ICMP6 if six else ICMP)
    frame = from_decky(payload or icmp(128 if six else 8), protocol, six=six)
    kernel.feed(frame, Wait(SECOND), frame, frame, egress=True)
    (found,) = begun(kernel)
    ends = (DECKY6, CLIENT6) if six else (DECKY, CLIENT)
    assert where(found) == (*ends, protocol, port, 3)
    assert found.decky_port == decky_port
    assert found.last_ns - found.time_ns == SECOND + 1_000_000
    assert (found.link & (1 << 48) - 1).to_bytes(6, "big") == MAC
    assert kernel.counters()["datagrams_begun"] == 3
    assert kernel.sources() == {}


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_an_answer_to_a_probe_is_none(kernel: Kernel, six: bool) -> None:
    """Nor what no system sends to ask for something."""
    protocol, echo, reply = (ICMP6, 128, 129) if six else (ICMP, 8, 0)
    kernel.feed(to_decky(ASK, UDP, six=six), to_decky(icmp(echo), protocol, six=six))
    kernel.feed(
        from_decky(REPLY, UDP, six=six),
        from_decky(icmp(reply), protocol, six=six),
        from_decky(icmp(1 if six else 3, data=ip(b"", 99, six=six)), protocol, six=six),
        from_decky(bytes(16), ESP, six=six),
        egress=True,
    )
    assert begun(kernel) == []
    assert "datagrams_begun" not in kernel.counters()


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
def test_a_ping_of_a_decky_is_one_though_its_peer_has_pinged_it(kernel: Kernel, six: bool) -> None:
    protocol, echo, reply = (ICMP6, 128, 129) if six else (ICMP, 8, 0)
    kernel.feed(to_decky(icmp(echo), protocol, six=six))
    kernel.feed(from_decky(icmp(echo, number=9), protocol, six=six), egress=True)
    assert [one.protocol for one in begun(kernel)] == [protocol]
    # So the reply is no probe.
    kernel.feed(to_decky(icmp(reply, number=9), protocol, six=six))
    (source,) = kernel.sources().values()
    assert sum(source.probes.values()) == 1


def test_a_decky_asks_another_one(kernel: Kernel) -> None:
    """From another port each time. The replies are neither probes nor begun."""
    for port in range(50_000, 50_008):
        kernel.feed(ethernet(ipv4(udp(port, 53), DECKY, DECKY_B, protocol=UDP)))
        kernel.feed(ethernet(ipv4(udp(53, port), DECKY_B, DECKY, protocol=UDP)))
    (found,) = begun(kernel)
    assert where(found) == (DECKY, DECKY_B, UDP, 53, 8)
    assert list(kernel.sources()) == [DECKY]


@pytest.mark.parametrize("to", ["224.0.0.251", "255.255.255.255"])
def test_what_goes_to_many_is_none(kernel: Kernel, to: str) -> None:
    kernel.feed(ethernet(ipv4(udp(5_353, 5_353), DECKY, to, protocol=UDP)), egress=True)
    assert begun(kernel) == []


def flood(kernel: Kernel) -> None:
    """Probes of many times as many sources as there is room for."""
    for number in range(8 * SLOTS):
        source = f"10.3.{number >> 8}.{number & 255}"
        kernel.feed(ethernet(ipv4(udp(50_000, 53), source, DECKY, protocol=UDP)))


def test_an_answer_to_a_source_that_was_evicted_is_none(kernel: Kernel) -> None:
    """It is counted, because it may be none. Long after the flood, a decky is believed."""
    kernel.feed(to_decky(ASK, UDP, six=False))
    flood(kernel)
    kernel.feed(from_decky(REPLY, UDP, six=False), egress=True)
    assert begun(kernel) == []
    assert kernel.counters()["datagrams_uncertain"] == 1
    kernel.feed(Wait(120 * SECOND), from_decky(REPLY, UDP, six=False), egress=True)
    assert len(begun(kernel)) == 1


def test_a_ping_is_certain_in_a_flood(kernel: Kernel) -> None:
    flood(kernel)
    kernel.feed(from_decky(icmp(8), ICMP, six=False), egress=True)
    assert [one.protocol for one in begun(kernel)] == [ICMP]


def test_a_source_with_more_targets_than_are_kept_may_be_answered(kernel: Kernel) -> None:
    for port in range(5_000):
        kernel.feed(to_decky(udp(50_000, 1 + port), UDP, six=False))
    lost = next(iter(kernel.sources().values())).targets_lost
    assert lost
    kernel.feed(from_decky(udp(5_001, 50_000), UDP, six=False), egress=True)
    assert begun(kernel) == []
    assert kernel.counters()["datagrams_uncertain"] == 1


def test_the_table_is_bounded_and_losses_are_counted(kernel: Kernel) -> None:
    """A slot goes to another one only after it was silent for longer than the agent sleeps."""
    table = BegunTable(kernel.loaded.maps)
    slots = kernel.loaded.maps["begun_by_deckies"].max_entries
    frames = [
        ethernet(ipv4(udp(50_000, port), DECKY, CLIENT, protocol=UDP))
        for port in range(1, 2 * slots + 1)
    ]
    kernel.feed(*frames, egress=True)
    found = table.changed()
    lost = kernel.counters()["datagrams_begun_lost"]
    assert 0 < lost < 2 * slots
    # A millisecond passes between two frames.
    assert table.unread
    assert len(found) + table.unread == 2 * slots - lost
    assert len(found) <= slots
    kernel.feed(Wait(10 * SECOND), *frames, egress=True)
    again = table.changed()
    assert len(again) <= slots
    lost = kernel.counters()["datagrams_begun_lost"]
    repeated = sum(one.datagrams - 1 for one in again)
    assert len(found) + len(again) + repeated + table.unread == 4 * slots - lost
