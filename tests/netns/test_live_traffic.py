"""Every connection has its events once, with the right decky, direction and times.

tcpdump on the same parent gives the expected segments and times.
"""

from __future__ import annotations

import re
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.certificates import make_certificate
from deckwire.lab.servers import http_server, openssl_server
from tests.support.live_wire import ACK, SYN, Flow, Segment, Tap, retransmits
from tests.support.watching import (
    EVERYTHING,
    TLS12,
    TLS13,
    assert_nothing_lost,
    client_context,
    conn_id,
    counted,
    fetch,
    final_sums,
    time_ns,
)

pytestmark = pytest.mark.root

ROUNDS = 19
"""Rounds of sixteen connections each."""

CLIENT_HELLO, SERVER_HELLO = (
    re.compile(rb"\x16\x03.{3}\x01", re.S),
    re.compile(rb"\x16.{4}\x02", re.S),
)


@dataclass(frozen=True)
class Made:
    """A connection that the test made, and the expected facts in its events."""

    flow: Flow
    version: ssl.TLSVersion
    host: str
    direction: str


@pytest.fixture(params=[True, False], ids=["offloads", "plain"])
def servers(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab where the client and two deckies serve TLS, with and without offloads."""
    with Lab(host_macvlan=True, offloads=request.param) as lab:
        for node in (lab.client, *lab.deckies[:2]):
            certificate = make_certificate(lab.directory, f"{node.name}.example.test", key="ec")
            openssl_server(lab, node, certificate)
        yield lab


def connect_in_every_direction(lab: Lab) -> list[Made]:
    web, mail, files = lab.deckies
    routes: list[tuple[Node, Node, str, str]] = [
        (lab.client, web, web.name, "inbound"),
        (lab.host, mail, mail.name, "inbound"),
        (files, lab.client, files.name, "outbound"),
        (files, mail, mail.name, "lateral"),
    ]
    contexts = {version: client_context(version) for version in (TLS12, TLS13)}
    return [
        Made(fetch(here, address, context=context), version, host, direction)
        for _ in range(ROUNDS)
        for here, there, host, direction in routes
        for address in (there.v4, there.v6)
        for version, context in contexts.items()
    ]


def by_connection(events: list[JsonEvent]) -> dict[str, dict[str, list[JsonEvent]]]:
    found: dict[str, dict[str, list[JsonEvent]]] = {}
    for event in events:
        if "conn_id" in event["fields"]:
            of_connection = found.setdefault(event["fields"]["conn_id"], {})
            of_connection.setdefault(event["event"], []).append(event)
    return found


def test_every_connection_has_its_events_once_as_tcpdump_saw_it(servers: Lab) -> None:
    agent = AgentProcess(servers, options=EVERYTHING)
    with Tap(servers) as tap:
        made = connect_in_every_direction(servers)
        # The last segments of the servers may come later.
        agent.wait(lambda: len(agent.find("tcp_flow_timing")) >= len(made), "all have ended")
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    emitted = by_connection(agent.events)
    assert len(made) == len({one.flow for one in made}) == len(emitted) == 16 * ROUNDS
    clocks: list[int] = []
    for one in made:
        events = emitted[conn_id(one.flow)]
        assert len(events.pop("decky_initiated", [])) == (one.direction != "inbound")
        assert {name: len(found) for name, found in events.items()} == {
            "tcp_syn_fingerprint": 1,
            "tcp_handshake": 1,
            "tls_client_hello": 1,
            "tls_session": 1,
            "tcp_flow_timing": 1,
            **({"tls_certificate": 1} if one.version == TLS12 else {}),
        }
        for (event,) in events.values():
            fields = event["fields"]
            client, client_port, server, server_port = one.flow
            assert (event["host"], fields["direction"]) == (one.host, one.direction)
            assert (fields["src_ip"], fields["src_port"]) == (client, client_port)
            assert (fields["dst_ip"], fields["dst_port"]) == (server, server_port)
        version = "TLS 1.2" if one.version == TLS12 else "TLS 1.3"
        assert events["tls_client_hello"][0]["fields"]["tls_version"] == version
        assert events["tls_session"][0]["fields"]["tls_version"] == version
        segments = tap.flows[one.flow]
        assert_same_figures(events["tcp_flow_timing"][0], segments)
        clocks += clock_differences(events, segments)
    assert_near(clocks, usual_ns=100_000, worst_ns=1_000_000)
    assert_same_intervals(emitted, tap.flows, made)


def assert_same_figures(event: JsonEvent, segments: list[Segment]) -> None:
    """Assert that packets and bytes of both ends are those that tcpdump saw."""
    fields = event["fields"]
    sent = [s for s in segments if s.src == fields["src_ip"]]
    replies = [s for s in segments if s.src != fields["src_ip"]]
    assert fields["close"] == "fin"
    for end, frames in (("client", sent), ("server", replies)):
        reported = fields[f"packets_{end}"], fields[f"bytes_{end}"]
        passed = sum(s.packets() for s in frames), sum(s.payload_len for s in frames)
        if reported != passed:
            shown = " ".join(f"{s.sport}:{s.flags:#x}:{s.payload_len}" for s in segments)
            pytest.fail(f"{end}: {reported} reported, {passed} passed: {shown}")
    assert fields["packets"] == fields["packets_client"] + fields["packets_server"]
    assert fields["bytes"] == fields["bytes_client"] + fields["bytes_server"]
    assert fields["retransmits"] == retransmits(sent)
    assert fields["retransmits_server"] == retransmits(replies)


def opening_segments(segments: list[Segment]) -> tuple[Segment, Segment, Segment]:
    syn, synack, ack = segments[:3]
    assert [s.flags & (SYN | ACK) for s in (syn, synack, ack)] == [SYN, SYN | ACK, ACK]
    return syn, synack, ack


def clock_differences(events: dict[str, list[JsonEvent]], segments: list[Segment]) -> list[int]:
    """Nanoseconds between the times of an event and of its segment in tcpdump."""
    syn, _, ack = opening_segments(segments)
    hello = next(s for s in segments if CLIENT_HELLO.match(s.start))
    server_hello = next(s for s in segments if SERVER_HELLO.match(s.start))
    seen = {
        "tcp_syn_fingerprint": syn,
        "tcp_handshake": ack,
        "tls_client_hello": hello,
        "tls_session": server_hello,
        "tcp_flow_timing": segments[-1],
    }
    return [abs(time_ns(events[name][0]) - segment.time_ns) for name, segment in seen.items()]


def assert_same_intervals(
    emitted: dict[str, dict[str, list[JsonEvent]]],
    flows: dict[Flow, list[Segment]],
    made: list[Made],
) -> None:
    """Assert that round trips, durations and inter-arrival times are those that tcpdump saw."""
    differences: dict[str, list[int]] = {}
    for one in made:
        segments = flows[one.flow]
        syn, synack, ack = opening_segments(segments)
        fields = emitted[conn_id(one.flow)]["tcp_flow_timing"][0]["fields"]
        times = [s.time_ns for s in segments]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        duration = times[-1] - times[0]
        expected = {
            "rtt_server_us": (synack.time_ns - syn.time_ns, 1_000),
            "rtt_client_us": (ack.time_ns - synack.time_ns, 1_000),
            "duration_s": (duration, 1_000_000_000),
            "mean_iat_ms": (duration // (fields["packets"] - 1), 1_000_000),
            "max_iat_ms": (max(gaps), 1_000_000),
            "min_iat_ms": (min(gaps), 1_000_000),
        }
        for name, (interval, unit) in expected.items():
            differences.setdefault(name, []).append(abs(round(fields[name] * unit) - interval))
        least_ns = fields["rtt_min_us"] * 1_000
        nearest = min(abs(least_ns - trip) for trip in round_trips(segments))
        differences.setdefault("rtt_min_us", []).append(nearest)
    for name, found in differences.items():
        # The event has a duration in whole milliseconds.
        usual = 550_000 if name == "duration_s" else 50_000
        assert_near(found, usual_ns=usual, worst_ns=1_000_000, what=name)


def round_trips(segments: list[Segment]) -> Iterator[int]:
    """Nanoseconds from each data segment of the server to the client's ACK of all its data."""
    server = segments[1].src, segments[1].sport
    for number, sent in enumerate(segments):
        if (sent.src, sent.sport) != server or not sent.payload_len:
            continue
        for later in segments[number + 1 :]:
            beyond = (later.ack - sent.seq - sent.payload_len) & 0xFFFF_FFFF
            if (later.src, later.sport) != server and beyond < 1 << 31:
                yield later.time_ns - sent.time_ns
                break


def assert_near(
    differences: list[int], *, usual_ns: int, worst_ns: int, what: str = "times"
) -> None:
    """Assert that half are within `usual_ns`, and three of four within `worst_ns`.

    The two stamps of a frame are taken one after the other. tcpdump's is taken before the frame
    waits for its CPU, the program's after it. On a busy machine such a wait lasts milliseconds.
    """
    assert median(differences) <= usual_ns, (what, median(differences))
    beyond = sum(difference > worst_ns for difference in differences)
    assert beyond <= len(differences) // 4, (what, sorted(differences)[-10:])


def test_the_sessions_of_openssl_s_client(lab: Lab) -> None:
    web = lab.deckies[0]
    openssl_server(lab, web, make_certificate(lab.directory, "www.example.test"))
    agent = AgentProcess(lab, options=EVERYTHING)
    expected = []
    for address in (web.v4, f"[{web.v6}]"):
        for option, version, cipher in (
            ("-tls1_2", "TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            ("-tls1_3", "TLS 1.3", "TLS_AES_256_GCM_SHA384"),
        ):
            argv = ["openssl", "s_client", "-connect", f"{address}:443", option,
                    "-alpn", "h2,http/1.1", "-servername", "www.example.test"]  # fmt: skip
            done = lab.run(lab.client, argv, input="GET / HTTP/1.0\n\n")
            assert done.returncode == 0, done.stderr
            expected.append((address.strip("[]"), version, cipher))
    agent.stop()
    assert_nothing_lost(agent)
    sessions = agent.find("tls_session")
    seen = [tuple(e["fields"][n] for n in ("dst_ip", "tls_version", "cipher")) for e in sessions]
    assert seen == expected
    assert {(event["host"], event["severity"]) for event in sessions} == {(web.name, 4)}
    offered = agent.find("tls_client_hello", sni="www.example.test", alpn=["h2", "http/1.1"])
    assert len(offered) == len(expected)
    assert len(agent.find("tls_certificate", subject_cn="www.example.test")) == 2


def test_each_source_has_its_events_once_and_a_count_of_repeats(lab: Lab) -> None:
    """With the default suppression window each source has its events once.

    At the end dedup_summary has the number of suppressed repeats.
    """
    web = lab.deckies[0]
    openssl_server(lab, web, make_certificate(lab.directory, "www.example.test"))
    agent = AgentProcess(lab)
    for source in lab.client.ipv4:
        fetch(lab.client, web.v4, source=source)
        agent.expect("tls_session", src_ip=source)
        for _ in range(4):
            fetch(lab.client, web.v4, source=source)
    agent.stop()
    assert_nothing_lost(agent)
    # After that the kernel sends no sample of the ClientHello, only of the ServerHello.
    assert final_sums(agent)["hellos_suppressed"] == 4 * len(lab.client.ipv4)
    for source in lab.client.ipv4:
        once = counted(agent, src_ip=source, direction="inbound")
        assert once == Counter(
            tcp_syn_fingerprint=1,
            tcp_handshake=1,
            tls_client_hello=1,
            tls_session=1,
            tcp_flow_timing=1,
        )
        summaries = {
            event["fields"]["event"]: event["fields"]["count"]
            for event in agent.find("dedup_summary", src_ip=source)
        }
        assert summaries == dict.fromkeys(once, 4)


def test_a_connection_that_was_open_before_is_mid_stream(lab: Lab) -> None:
    web = lab.deckies[0]
    http_server(lab, web)
    with lab.client.connect(web.v4, 80) as connection:
        agent = AgentProcess(lab, options=EVERYTHING)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(4_096):
            pass
    agent.stop()
    (flow,) = agent.find("tcp_flow_timing")
    assert flow["fields"]["direction"] == "inbound"
    assert flow["fields"]["dst_ip"] == web.v4
    assert flow["fields"]["bytes_client"] == 18
    assert agent.find("tcp_handshake") == agent.find("tcp_syn_fingerprint") == []
