"""Packets in IP fragments give the events that they give whole."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from struct import pack

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.certificates import make_certificate
from deckwire.lab.servers import openssl_server
from tests.netns.test_live_scans import needs, open_ports
from tests.support.fragmenting import FragmentingClient
from tests.support.watching import (
    EVERYTHING,
    TLS12,
    TLS13,
    assert_conserved,
    client_context,
    final_sums,
)

pytestmark = pytest.mark.root

NAME = "www.example.test"
OWN = {
    *(
        "src_port",
        "conn_id",
        "event_id",
        "fragments",
        "ip_id",
        "df",
        "p0f_sig",
        "tool",
        "tool_evidence",
    ),
    *("packets", "packets_server", "bytes", "bytes_server", "bytes_accepted_server"),
    *("duration_s", "mean_iat_ms", "min_iat_ms", "max_iat_ms"),
    *("rtt_client_us", "rtt_server_us", "rtt_min_us", "ja4l_c", "ja4l_s", "ja4l_rtt_ms"),
}
"""Fields that differ: times, what the identification and don't-fragment of IPv4 show, and counts.
The server's signature varies in length, and its ACK may come before the SYN has been put together.
"""
TIMES = {"rtt_client_us", "rtt_server_us", "ja4l_c", "ja4l_s", "ja4l_rtt_ms"}


@pytest.fixture
def watched() -> Iterator[tuple[Lab, AgentProcess]]:
    with Lab() as lab:
        openssl_server(lab, lab.deckies[0], make_certificate(lab.directory, NAME, key="ec"))
        yield lab, AgentProcess(lab, options=EVERYTHING)


def of_port(agent: AgentProcess, port: int) -> dict[str, JsonEvent]:
    found = [one for one in agent.events if one["fields"].get("src_port") == port]
    assert len({one["event"] for one in found}) == len(found), "each event once"
    return {one["event"]: one for one in found}


@pytest.mark.parametrize("tls", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("version", [4, 6])
def test_tls_in_fragments_of_8_bytes_is_told_as_whole(
    watched: tuple[Lab, AgentProcess], version: int, tls: ssl.TLSVersion
) -> None:
    lab, agent = watched
    context = client_context(tls)
    sent = {}
    for port, size in ((41_000, None), (41_001, 8), (41_002, 64)):
        with FragmentingClient(lab, lab.deckies[0], version, port, size) as client:
            client.talk(context, NAME)
            sent[port] = client.fragments
        agent.expect("tcp_flow_timing", src_port=port)
    assert agent.stop() == 0
    whole = of_port(agent, 41_000)
    assert {"tcp_syn_fingerprint", "tcp_handshake", "tls_client_hello", "tls_session"} <= {*whole}
    for port in (41_001, 41_002):
        cut = of_port(agent, port)
        assert cut.keys() == whole.keys()
        for name, event in cut.items():
            fields, plain = event["fields"], whole[name]["fields"]
            assert fields.keys() - OWN == plain.keys() - OWN
            differ = {key for key in fields.keys() - OWN if fields[key] != plain[key]}
            assert not differ, name
            assert 0 < fields["fragments"] <= sent[port]
            if (version, port) == (4, 41_001):  # SYN and ACK came in fragments too
                assert not fields.keys() & TIMES
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["fragments_received"] == sum(sent.values()) == sums["fragments_reassembled"]


@needs("nmap")
@pytest.mark.parametrize("options", [["-f"], ["-f", "-f"], ["--mtu", "8"]], ids=" ".join)
def test_a_fragmented_scan_of_nmap_is_told(lab: Lab, options: list[str]) -> None:
    agent = scanned(lab, ["nmap", "-n", "-Pn", "-sS", "-p443,80,81", *options])
    for port in (443, 80, 81):
        fields = agent.expect("tcp_syn_fingerprint", dst_port=port)["fields"]
        assert fields["tool"] == "nmap"
        assert fields["fragments"] == (2 if options == ["-f", "-f"] else 3)
    stop(agent)


@needs("hping3")
def test_a_fragmented_scan_of_hping_is_told(lab: Lab) -> None:
    options = ["-f", "-S", "-p", "443", "-c", "2", "-i", "u10000", "-d", "40"]
    agent = scanned(lab, ["hping3", *options])
    fields = agent.expect("tcp_syn_fingerprint", dst_port=443)["fields"]
    assert fields["tool"] == "hping"
    assert fields["fragments"] > 1
    stop(agent)


def scanned(lab: Lab, argv: list[str]) -> AgentProcess:
    open_ports(lab)
    agent = AgentProcess(lab, options=EVERYTHING)
    lab.run(lab.client, [*argv, lab.deckies[0].v4])
    return agent


def stop(agent: AgentProcess) -> dict[str, int]:
    assert agent.stop() == 0
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["fragments_received"] == sums["fragments_reassembled"]
    return sums


def test_a_flood_of_single_fragments_stays_within_its_budget(
    watched: tuple[Lab, AgentProcess],
) -> None:
    """From many sources, 18 MB: seven seconds' budget. Whole packets are reported meanwhile."""
    lab, agent = watched
    decky = lab.deckies[0]
    mac = bytes(6)
    for line in lab.run(decky, ["ip", "-br", "link", "show", decky.interface]).stdout.split():
        if line.count(":") == 5:
            mac = bytes.fromhex(line.replace(":", ""))
    with lab.client.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((lab.client.interface, 0))
        ends = socket.inet_aton(decky.v4)
        for n in range(20_000):
            source = bytes([198, 19, n >> 8 & 0xFF, n & 0xFF])
            head = pack("!BBHHHBBH", 0x45, 0, 820, n & 0xFFFF, 0x2000, 64, 6, 0)
            raw.send(mac + bytes(6) + b"\x08\x00" + head + source + ends + bytes(800))
    with FragmentingClient(lab, decky, 4, 41_000, None) as client:
        client.talk(client_context(TLS13), NAME)
    agent.expect("tls_client_hello", src_port=41_000)
    agent.expect("tcp_flow_timing", src_port=41_000)
    assert agent.stop() == 0
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["ignored_fragment_first"] == 20_000
    assert sums["fragments_received"] + sums["fragments_over_budget"] == 20_000
    assert sums["fragments_over_budget"] > 0
