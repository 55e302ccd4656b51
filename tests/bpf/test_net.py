"""From the frame to TCP: what is parsed, what is ignored, and which counter it raises."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from deckwire.abi import structs as abi
from deckwire.abi.samples import SynSample
from tests.support.bpf_frames import (
    AH,
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    DF,
    DSTOPTS,
    ESP,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    HOPOPTS,
    LINUX_OPTIONS,
    MF,
    NO_NEXT,
    QINQ,
    QINQ_OLD,
    RESERVED,
    ROUTING,
    STRANGER,
    STRANGER6,
    TALK6,
    TCP,
    UDP,
    VLAN,
    Talk,
    ethernet,
    extension,
    fragment,
    hello,
    ipv4,
    ipv6,
    tcp,
)
from tests.support.bpf_harness import Kernel, segments

pytestmark = pytest.mark.root

SYN = tcp(options=LINUX_OPTIONS)
SYN4 = ethernet(ipv4(tcp(sport=1), DECKY, STRANGER))
SYN6 = ethernet(ipv6(tcp(sport=1), DECKY6, STRANGER6))
DATA = tcp(b"GET / HTTP/1.0\r\n\r\n", flags="PA", seq=5, ack=5)
FLOW = {"frames_syn": 1, "half_open_inserts": 1}
MIDSTREAM = {"frames_midstream": 1, "midstream_inserts": 1}
SHORTEST4, SHORTEST6, LONGEST = 34, 54, 3_500
"""What a test run accepts on every kernel."""


class Case(NamedTuple):
    about: str
    frame: bytes
    counter: str
    """The only counter raised, apart from those of a SYN."""


def nested(*headers: tuple[int, int], last: int = TCP) -> bytes:
    """A SYN after extension headers (kind, size), in a frame."""
    packet, following = SYN, last
    for kind, size in reversed(headers):
        packet, following = extension(kind, following, packet, size), kind
    return ethernet(ipv6(packet, next_header=following))


CASES = [
    # --- Ethernet ---
    Case("IPv4", ethernet(ipv4(SYN)), "frames_syn"),
    Case("IPv6", ethernet(ipv6(SYN)), "frames_syn"),
    Case("from a decky", ethernet(ipv4(SYN, DECKY, STRANGER)), "frames_syn"),
    Case("IPv6 from a decky", ethernet(ipv6(SYN, DECKY6, STRANGER6)), "frames_syn"),
    Case("between deckies", ethernet(ipv4(SYN, DECKY, DECKY_B)), "frames_syn"),
    Case("ARP", ethernet(bytes(46), ETH_ARP), "foreign_not_ip"),
    Case("802.3 length instead of a type", ethernet(ipv4(SYN), 46), "foreign_not_ip"),
    Case("802.1Q", ethernet(ipv4(SYN), tags=[(VLAN, 5)]), "frames_syn"),
    Case(
        "802.1Q with priority and drop bits",
        ethernet(ipv6(SYN), tags=[(VLAN, 0xF005)]),
        "frames_syn",
    ),
    Case("QinQ", ethernet(ipv4(SYN), tags=[(QINQ, 5), (VLAN, 6)]), "frames_syn"),
    Case("QinQ over IPv6", ethernet(ipv6(SYN), tags=[(QINQ, 5), (VLAN, 6)]), "frames_syn"),
    Case("QinQ of old", ethernet(ipv4(SYN), tags=[(QINQ_OLD, 5), (VLAN, 6)]), "frames_syn"),
    Case("three VLANs", ethernet(ipv4(SYN), tags=[(VLAN, 5)] * 3), "foreign_vlan_tags"),
    Case("three priority tags", ethernet(ipv4(SYN), tags=[(VLAN, 0)] * 3), "frames_syn"),
    Case(
        "priority tags around two VLANs",
        ethernet(ipv6(SYN), tags=[(VLAN, 0xE000), (QINQ, 5), *[(VLAN, 0)] * 50, (VLAN, 6)]),
        "frames_syn",
    ),
    Case(
        "priority tags and three VLANs",
        ethernet(ipv4(SYN), tags=[*[(VLAN, 0)] * 9, *[(QINQ, 5)] * 3]),
        "foreign_vlan_tags",
    ),
    Case("as many tags as are read", ethernet(ipv4(SYN), tags=[(VLAN, 0)] * 368), "frames_syn"),
    Case("a tag more", ethernet(ipv4(SYN), tags=[(VLAN, 0)] * 369), "foreign_vlan_tags"),
    Case("tags around ARP", ethernet(bytes(46), ETH_ARP, [(VLAN, 0)] * 9), "foreign_not_ip"),
    Case("tags to the end", ethernet(b"", VLAN, [(VLAN, 0)] * 9), "foreign_not_ip"),
    Case(
        "tags around a stranger",
        ethernet(ipv4(SYN, CLIENT, STRANGER), tags=[(VLAN, 0)] * 9),
        "foreign_no_decky",
    ),
    Case("a tag around ARP", ethernet(bytes(46), ETH_ARP, [(VLAN, 5)]), "foreign_not_ip"),
    # --- addresses ---
    Case("strangers", ethernet(ipv4(SYN, CLIENT, STRANGER)), "foreign_no_decky"),
    Case("IPv6 strangers", ethernet(ipv6(SYN, CLIENT6, STRANGER6)), "foreign_no_decky"),
    Case(
        "strangers with nonsense after the addresses",
        ethernet(ipv4(b"", CLIENT, STRANGER, ihl=0, total=3)),
        "foreign_no_decky",
    ),
    Case(
        "a decky's IPv4 address as IPv6",
        ethernet(ipv6(SYN, CLIENT6, f"::ffff:{DECKY}")),
        "foreign_no_decky",
    ),
    # --- protocols ---
    Case("UDP", ethernet(ipv4(bytes(20), protocol=UDP)), "ignored_not_tcp"),
    Case("ICMP", ethernet(ipv4(bytes(20), protocol=1)), "ignored_not_tcp"),
    Case("IPv6 UDP", ethernet(ipv6(bytes(20), next_header=UDP)), "ignored_not_tcp"),
    Case("ICMPv6", ethernet(ipv6(bytes(20), next_header=58)), "ignored_not_tcp"),
    Case("ESP", ethernet(ipv6(bytes(20), next_header=ESP)), "ignored_not_tcp"),
    Case("no next header", ethernet(ipv6(b"", next_header=NO_NEXT)), "ignored_not_tcp"),
    Case("no next header after options", nested((DSTOPTS, 8), last=NO_NEXT), "ignored_not_tcp"),
    # --- IPv4 header ---
    Case("options", ethernet(ipv4(SYN, options=bytes([148, 4, 0, 0]))), "frames_syn"),
    Case("40 bytes of options", ethernet(ipv4(SYN, options=bytes(40))), "frames_syn"),
    Case("reserved bit", ethernet(ipv4(SYN, fragment=RESERVED)), "frames_syn"),
    Case("IHL 0", ethernet(ipv4(SYN, ihl=0)), "ignored_ip_malformed"),
    Case("IHL 4", ethernet(ipv4(SYN, ihl=4)), "ignored_ip_malformed"),
    Case("IHL beyond the length", ethernet(ipv4(SYN, ihl=15, total=59)), "ignored_ip_malformed"),
    Case("IHL beyond the frame", ethernet(ipv4(b"", ihl=15, total=80)), "ignored_tcp_malformed"),
    Case("length 1", ethernet(ipv4(SYN, total=1)), "ignored_ip_malformed"),
    Case("length 19", ethernet(ipv4(SYN, total=19)), "ignored_ip_malformed"),
    Case("length of the IP header alone", ethernet(ipv4(SYN, total=20)), "ignored_tcp_malformed"),
    Case("length 39", ethernet(ipv4(SYN, total=39)), "ignored_tcp_malformed"),
    Case(
        "length less than the TCP options", ethernet(ipv4(SYN, total=59)), "ignored_tcp_malformed"
    ),
    Case("version 6 in IPv4", ethernet(ipv4(SYN, version=6), ETH_IPV4), "ignored_ip_malformed"),
    Case("version 0 in IPv4", ethernet(ipv4(SYN, version=0), ETH_IPV4), "ignored_ip_malformed"),
    Case("first fragment", ethernet(ipv4(SYN, fragment=MF)), "ignored_fragment_first"),
    Case("first fragment with DF", ethernet(ipv4(SYN, fragment=MF | DF)), "ignored_fragment_first"),
    Case("middle fragment", ethernet(ipv4(SYN, fragment=MF | 1)), "ignored_fragment_later"),
    Case("last fragment", ethernet(ipv4(SYN, fragment=0x1FFF)), "ignored_fragment_later"),
    Case("fragment of 8 bytes", ethernet(ipv4(SYN[:8], fragment=MF)), "ignored_fragment_first"),
    Case("UDP fragment", ethernet(ipv4(bytes(8), protocol=UDP, fragment=MF)), "ignored_not_tcp"),
    # --- IPv6 header ---
    Case("version 4 in IPv6", ethernet(ipv6(SYN, version=4), ETH_IPV6), "ignored_ip_malformed"),
    Case("version 15 in IPv6", ethernet(ipv6(SYN, version=15), ETH_IPV6), "ignored_ip_malformed"),
    Case("IPv6 length 19", ethernet(ipv6(SYN, length=19)), "ignored_tcp_malformed"),
    Case("IPv6 length beyond the frame", ethernet(ipv6(SYN, length=1_400)), "frames_syn"),
    Case("hop-by-hop options", nested((HOPOPTS, 8)), "frames_syn"),
    Case("routing", nested((ROUTING, 24)), "frames_syn"),
    Case("destination options", nested((DSTOPTS, 16)), "frames_syn"),
    Case("authentication", nested((AH, 24)), "frames_syn"),
    Case("authentication of 16 bytes", nested((AH, 16)), "frames_syn"),
    Case("the longest options", nested((DSTOPTS, 2_048)), "frames_syn"),
    Case(
        "all at once",
        nested((HOPOPTS, 8), (DSTOPTS, 8), (ROUTING, 16), (AH, 24), (DSTOPTS, 24)),
        "frames_syn",
    ),
    Case("fifteen headers", nested(*[(DSTOPTS, 8)] * 15), "frames_syn"),
    Case("sixteen headers", nested(*[(DSTOPTS, 8)] * 16), "frames_syn"),
    Case("seventeen headers", nested(*[(DSTOPTS, 8)] * 17), "ignored_ext_headers"),
    Case("hop-by-hop options later", nested((DSTOPTS, 8), (HOPOPTS, 8)), "ignored_ip_malformed"),
    Case(
        "two fragment headers",
        ethernet(ipv6(fragment(44, fragment(TCP, SYN)), next_header=44)),
        "ignored_ip_malformed",
    ),
    Case(
        "a fragment after an atomic one",
        ethernet(ipv6(fragment(44, fragment(TCP, SYN, more=True)), next_header=44)),
        "ignored_ip_malformed",
    ),
    Case(
        "a later fragment that names another protocol",
        ethernet(ipv6(fragment(UDP, SYN, 1), next_header=44)),
        "ignored_fragment_later",
    ),
    Case(
        "an extension header beyond the length",
        ethernet(ipv6(extension(DSTOPTS, TCP, SYN), next_header=DSTOPTS, length=7)),
        "ignored_ip_malformed",
    ),
    Case(
        "an extension header beyond the frame",
        ethernet(ipv6(bytes([TCP, 200, 0, 0]), next_header=DSTOPTS)),
        "ignored_ip_malformed",
    ),
    Case(
        "an extension header that claims to be longer than the frame",
        ethernet(ipv6(extension(DSTOPTS, TCP, SYN)[:1] + b"\xff" + SYN, next_header=DSTOPTS)),
        "ignored_ip_malformed",
    ),
    Case(
        "atomic fragment",
        ethernet(ipv6(fragment(TCP, SYN), next_header=44)),
        "frames_syn",
    ),
    Case(
        "atomic fragment after options",
        ethernet(ipv6(extension(HOPOPTS, 44, fragment(TCP, SYN)), next_header=HOPOPTS)),
        "frames_syn",
    ),
    Case(
        "IPv6 first fragment",
        ethernet(ipv6(fragment(TCP, SYN, more=True), next_header=44)),
        "ignored_fragment_first",
    ),
    Case(
        "IPv6 middle fragment",
        ethernet(ipv6(fragment(TCP, SYN, 1, more=True), next_header=44)),
        "ignored_fragment_later",
    ),
    Case(
        "IPv6 last fragment",
        ethernet(ipv6(fragment(TCP, SYN, 0x1FFF), next_header=44)),
        "ignored_fragment_later",
    ),
    Case(
        "IPv6 UDP fragment",
        ethernet(ipv6(fragment(UDP, bytes(16), more=True), next_header=44)),
        "ignored_not_tcp",
    ),
    # --- TCP header ---
    Case("data offset 0", ethernet(ipv4(tcp(offset=0))), "ignored_tcp_malformed"),
    Case("data offset 4", ethernet(ipv4(tcp(offset=4))), "ignored_tcp_malformed"),
    Case("data offset beyond the length", ethernet(ipv4(tcp(offset=6))), "ignored_tcp_malformed"),
    Case("data offset at the length", ethernet(ipv4(tcp(bytes(40), offset=15))), "frames_syn"),
    Case("IPv6 data offset 4", ethernet(ipv6(tcp(offset=4))), "ignored_tcp_malformed"),
    Case("IPv6 data offset beyond", ethernet(ipv6(tcp(offset=15))), "ignored_tcp_malformed"),
    Case("19 bytes of TCP", ethernet(ipv4(tcp()[:19])), "ignored_tcp_malformed"),
    Case(
        "a TCP header that the frame cuts off",
        ethernet(ipv4(tcp())[:-1]),
        "ignored_tcp_malformed",
    ),
    Case("options that the frame cuts off", ethernet(ipv4(SYN)[:-1]), "frames_syn"),
    Case("no flags", ethernet(ipv4(tcp(flags=""))), "frames_unattached"),
    Case("SYN and FIN", ethernet(ipv4(tcp(flags="SF"))), "frames_syn"),
    Case("SYN and RST", ethernet(ipv4(tcp(flags="SR"))), "frames_unattached"),
    Case("all twelve flags", ethernet(ipv4(tcp(flags="FSRPAUECN"))), "frames_unattached"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.about for case in CASES])
@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_a_frame_is_parsed_or_counted_by_cause(kernel: Kernel, case: Case, hook: str) -> None:
    kernel.feed(case.frame, egress=hook == "egress")
    expected = FLOW if case.counter == "frames_syn" else {case.counter: 1}
    if case.counter == "ignored_ext_headers":
        expected = {**expected, "anomalies": 1}
    assert kernel.raised() == expected
    submitted = {
        "frames_syn": "syn",
        "ignored_fragment_first": f"fragment:{len(case.frame)}",
        "ignored_fragment_later": f"fragment:{len(case.frame)}",
        "ignored_ext_headers": "anomaly:too_many_headers",
    }
    assert kernel.submitted() == submitted.get(case.counter, "")


@pytest.mark.parametrize("case", CASES, ids=[case.about for case in CASES])
@pytest.mark.parametrize("before", [SYN4, SYN6], ids=["IPv4", "IPv6"])
def test_the_frame_before_changes_nothing(kernel: Kernel, case: Case, before: bytes) -> None:
    kernel.feed(before)
    first = kernel.counters()
    kernel.feed(case.frame)
    raised = {name for name, n in kernel.counters().items() if n > first.get(name, 0)}
    assert case.counter in raised


def test_the_fields_of_a_syn_are_kept(kernel: Kernel) -> None:
    segment = tcp(
        b"early",
        seq=0xFEDCBA98,
        ack=0x01020304,
        flags="SECN",
        window=0xABCD,
        urgent=7,
        options=LINUX_OPTIONS,
    )
    packet = ipv4(segment, ttl=51, tos=0xB8, ip_id=54_321, fragment=DF | RESERVED, options=bytes(8))
    kernel.feed(ethernet(packet))
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    syn = sample.syn
    assert (syn.ip_version, syn.ttl, syn.tos, syn.ip_id) == (4, 51, 0xB8, 54_321)
    assert (syn.df, syn.ip_reserved, syn.ip_options_len, syn.flow_label) == (True, True, 8, 0)
    assert (syn.seq, syn.ack, syn.flags) == (0xFEDCBA98, 0x01020304, 0x1C2)
    assert (syn.window, syn.urgent, syn.options) == (0xABCD, 7, LINUX_OPTIONS)
    assert (syn.payload_len, syn.time_ns) == (5, kernel.now_ns)


def test_the_fields_of_an_ipv6_syn_are_kept(kernel: Kernel) -> None:
    packet = ipv6(
        extension(HOPOPTS, TCP, tcp(options=bytes(40)), 16),
        next_header=HOPOPTS,
        hop_limit=255,
        traffic_class=0xB9,
        flow_label=0xFEDCB,
    )
    kernel.feed(ethernet(packet, tags=[(VLAN, 9)]))
    (sample,) = kernel.samples()
    assert isinstance(sample, SynSample)
    syn = sample.syn
    assert (syn.ip_version, syn.ttl, syn.tos, syn.ip_id) == (6, 255, 0xB9, 0)
    assert (syn.df, syn.ip_reserved, syn.ip_options_len) == (False, False, 16)
    assert (syn.flow_label, syn.options, syn.payload_len) == (0xFEDCB, bytes(40), 0)


@pytest.mark.parametrize("length", range(0, 44, 4))
def test_options_of_every_length_are_kept(kernel: Kernel, length: int) -> None:
    options = bytes(range(1, length + 1))
    kernel.feed(ethernet(ipv4(tcp(options=options))))
    (half_open,) = kernel.table("half_open")
    assert half_open.syn.options_len == length
    assert half_open.syn.options == options.ljust(abi.TCP_OPTIONS_BYTES, b"\0")


def test_ethernet_padding_is_not_payload(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened())
    kernel.feed(talk.c("A", 1, 1) + bytes(6), talk.c("PA", 1, 1, b"hi") + bytes(40))
    assert kernel.client_side().bytes == 2
    assert kernel.client_side().retransmits == 0


def test_padding_is_not_sampled(kernel: Kernel) -> None:
    talk = Talk()
    kernel.feed(*talk.opened(), talk.c("PA", 1, 1, hello(1, 100)) + bytes(12))
    (segment,) = segments(kernel.samples())
    assert (segment.payload, segment.claimed) == (hello(1, 100), 100)


def test_padding_alone_begins_no_connection(kernel: Kernel) -> None:
    kernel.feed(Talk().c("A", 1, 1) + bytes(6))
    assert kernel.raised() == {"frames_unattached": 1}


@pytest.mark.parametrize("packet", [ipv4(DATA, total=0), ipv6(DATA, length=0)], ids=["v4", "v6"])
def test_length_0_means_the_frames_own_length(kernel: Kernel, packet: bytes) -> None:
    kernel.feed(ethernet(packet))
    (midstream,) = kernel.table("midstream_flows")
    assert midstream.totals.side[0].bytes + midstream.totals.side[1].bytes == 18


def test_payload_is_counted_by_the_ip_length_even_if_the_frame_is_cut(kernel: Kernel) -> None:
    packet = ipv4(tcp(hello(1, 1_000), flags="PA", seq=1_001, ack=5_000_001))
    kernel.feed(*Talk().opened(), ethernet(packet)[:200])
    assert kernel.client_side().bytes == 1_000
    (segment,) = segments(kernel.samples())
    assert (len(segment.payload), segment.claimed) == (200 - 54, 1_000)
    assert hello(1, 1_000).startswith(segment.payload)


@pytest.mark.parametrize("talk", [Talk(), TALK6], ids=["IPv4", "IPv6"])
def test_a_frame_cut_or_padded_to_any_length_is_counted_once(kernel: Kernel, talk: Talk) -> None:
    """Every length that a test run accepts: cut in the headers, cut in the payload, padded."""
    payload = hello(1, 1_400)
    frame = talk.c("PA", 1, 1, payload)
    headers = len(frame) - len(payload)
    shortest = SHORTEST4 if talk.client == CLIENT else SHORTEST6
    kernel.feed(*talk.opened())
    before = kernel.raised()
    for length in range(shortest, LONGEST + 1):
        kernel.feed(frame[:length].ljust(length, b"\0"))
        if length % 256 == 0:
            kernel.samples()
    counters = kernel.raised()
    assert counters["ignored_tcp_malformed"] == headers - shortest
    assert counters["frames_flow"] - before["frames_flow"] == LONGEST + 1 - headers
    assert kernel.client_side().bytes == (LONGEST + 1 - headers) * len(payload)


@pytest.mark.parametrize(
    ("gso", "packets"),
    [
        pytest.param({}, 1, id="a plain packet"),
        pytest.param({"gso_segs": 3, "gso_size": 1_000}, 3, id="as the stack says"),
        pytest.param({"gso_segs": 0, "gso_size": 1_000}, 3, id="derived from the segment size"),
        pytest.param({"gso_segs": 0, "gso_size": 2_500}, 1, id="one segment"),
        pytest.param({"gso_segs": 0, "gso_size": 2_499}, 2, id="one byte more than a segment"),
    ],
)
def test_a_super_packet_counts_as_its_packets(
    kernel: Kernel, gso: dict[str, Any], packets: int
) -> None:
    talk = Talk()
    kernel.feed(*talk.opened())
    before = kernel.client_side().packets
    kernel.feed(talk.c("PA", 1, 1, bytes(2_500)), **gso)
    side = kernel.client_side()
    assert (side.packets - before, side.bytes) == (packets, 2_500)
