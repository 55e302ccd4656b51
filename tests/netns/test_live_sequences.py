"""Real tools and a counting stack: how they choose IP identifications and sequence numbers."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from tests.support import bpf_frames as frames
from tests.support.fingerprint_frames import sent_packets
from tests.support.live_wire import Tap, link_socket, resolve
from tests.support.sequences import Four, sequence_fields, shown
from tests.support.watching import EVERYTHING, assert_nothing_lost

pytestmark = pytest.mark.root

SYNS = 10
PORTS = f"81-{80 + SYNS}"
CLOSED = range(81, 81 + SYNS)
ONE_CPU = ["taskset", "-c", "0"]
"""With two CPUs a veth pair may swap two SYNs."""


def count_up(lab: Lab, address: str, number: Callable[[int], tuple[int, int]]) -> None:
    """A stack of the test's own: IP identification and sequence number of each of its SYNs.

    No node has its address, so nothing answers the decky.
    """
    decky = lab.deckies[0]
    link, mac, decky_mac = link_socket(lab, decky, address)
    with link:
        for at, port in enumerate(CLOSED):
            ip_id, seq = number(at)
            segment = frames.tcp(flags="S", seq=seq, sport=40_000 + at, dport=port)
            packet = frames.ipv4(segment, address, decky.v4, ip_id=ip_id)
            link.send(decky_mac + mac + frames.summed(frames.ethernet(packet))[12:])


COUNTERS: dict[str, tuple[Callable[[int], tuple[int, int]], tuple[str, str]]] = {
    "198.18.0.240": (lambda at: (65_530 + at & 0xFFFF, 2**32 - 300 + 64 * at & 0xFFFF_FFFF),
                     ("incremental", "incremental")),
    "198.18.0.241": (lambda at: (0, 7), ("zero", "constant")),
    "198.18.0.242": (lambda at: (54_321, 0), ("constant", "zero")),
    "198.18.0.243": (lambda at: (4_097 * at, 4_096 * at), ("random", "incremental")),
}  # fmt: skip
"""Numbers of each SYN, and the classes that they are of."""


def connect_all(lab: Lab, address: str, source: str) -> None:
    """Linux itself, from one address."""
    for port in CLOSED:
        with pytest.raises(OSError, match="refused"):
            lab.client.connect(address, port, source)


def tools(lab: Lab) -> list[tuple[str, Sequence[str]]]:
    """Source and command of each tool."""
    decky, own, interface = lab.deckies[0], lab.client, ["-e", lab.client.interface]
    nmap = ["nmap", "-n", "-Pn", "-sS", *interface, "-p", PORTS]
    hping = ["hping3", "-S", "-c", str(SYNS), "-i", "u2000", "-p", "++81"]
    return [
        (own.ipv4[1], [*nmap, "-S", own.ipv4[1], decky.v4]),
        (own.ipv6[1], [*nmap, "-6", "-S", own.ipv6[1], decky.v6]),
        (own.ipv4[2], [*hping, "-a", own.ipv4[2], decky.v4]),
        (own.ipv4[3], [*hping, "-a", own.ipv4[3], "-N", "4711", "-M", "77", decky.v4]),
    ]


def test_classes_are_those_of_the_packets_on_the_wire() -> None:
    missing = [name for name in ("nmap", "hping3", "taskset") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Lab(clients=4) as lab:
        decky = lab.deckies[0]
        resolve(lab, lab.client, decky)
        agent = AgentProcess(lab, options=EVERYTHING)
        with Tap(lab) as tap:
            for _, command in tools(lab):
                lab.run(lab.client, [*ONE_CPU, *command])
            for address, source in ((decky.v4, lab.client.v4), (decky.v6, lab.client.v6)):
                connect_all(lab, address, source)
            for source, (number, _) in COUNTERS.items():
                count_up(lab, source, number)
        # Of those that came: floods of other tests share the queue of the CPU with this one.
        expected = sequence_fields(sent for sent in sent_packets(tap.path) if sent.is_syn)
        agent.wait(
            lambda: len(agent.find("tcp_syn_fingerprint")) >= sum(map(len, expected.values())),
            "all SYNs are reported",
            60,
        )
        assert agent.stop() == 0
        assert_nothing_lost(agent)

    found: dict[Four, list[dict[str, object]]] = defaultdict(list)
    last: dict[str, dict[str, object]] = {}
    for event in agent.find("tcp_syn_fingerprint"):
        fields = event["fields"]
        four = fields["src_ip"], fields["src_port"], fields["dst_ip"], fields["dst_port"]
        found[four].append(shown(fields))
        last[fields["src_ip"]] = shown(fields)
    assert found == expected
    sources = [lab.client.v4, lab.client.v6, *COUNTERS, *(source for source, _ in tools(lab))]
    for source, (_, classes) in COUNTERS.items():
        assert (last[source]["ipid_class"], last[source]["isn_class"]) == classes
    assert last[lab.client.ipv4[3]]["ipid_class"] == "constant"
    assert {last[source]["isn_samples"] for source in sources} == {8}
    # Linux and the tools that imitate none choose numbers that nobody can guess.
    assert last[lab.client.v4]["isn_class"] == "random"
    assert "ipid_class" not in last[lab.client.v6]
