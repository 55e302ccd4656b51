"""Observations and raw signatures, as p0f has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints import p0f, p0f_db
from deckwire.tcp.syn_packet import ACK, CWR, ECE, NS, PSH, SYN, URG, SynPacket
from tests.support.fingerprint_frames import LINUX, MACOS, MSS, WINDOWS, sent_packets, syn, syn6
from tests.support.shared import CORPUS, labelled_packets, needs_corpus

OWN_TIMESTAMP = LINUX[6:16]
ANY = st.builds(
    SynPacket,
    time_ns=st.just(0),
    ip_version=st.just(4),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    ip_id=st.integers(0, 65535),
    df=st.booleans(),
    ip_reserved=st.booleans(),
    ip_options_len=st.integers(0, 40),
    flow_label=st.just(0),
    seq=st.integers(0, 2**32 - 1),
    ack=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 0xFFF),
    window=st.integers(0, 65535),
    urgent=st.integers(0, 65535),
    options=st.binary(max_size=40),
    payload_len=st.integers(0, 1460),
)


@pytest.mark.parametrize(
    ("syn_packet", "signature"),
    [
        (syn(), "4:64+0:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0"),
        (syn(ttl=61), "4:61+3:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0"),
        (syn(ttl=85), "4:85+?:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0"),
        (
            syn(ttl=121, options=WINDOWS, window=65535),
            "4:121+7:0:1460:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0",
        ),
        (
            syn(options=MACOS, window=65535, ip_id=0),
            "4:64+0:0:1460:65535,6:mss,nop,ws,nop,nop,ts,sok,eol+1:df:0",
        ),
        (
            syn(options=b"", window=1024, df=False, ttl=255, payload_len=7),
            "4:255+0:0:0:1024,0:::+",
        ),
        (
            syn(options=MSS + b"\x1c\x04\x00\x01", ip_options_len=4),
            "4:64+0:4:1460:mss*44,0:mss,?28:df,id+:0",
        ),
        (syn6(), "6:64+0:0:1440:mss*45,7:mss,sok,ts,nop,ws:flow:0"),
    ],
)
def test_a_packet_has_the_raw_signature_of_p0f(syn_packet: SynPacket, signature: str) -> None:
    assert p0f.observe(syn_packet).signature == signature


@pytest.mark.parametrize(
    ("syn_packet", "quirks"),
    [
        (syn(), "df,id+"),
        (syn(ip_id=0), "df"),
        (syn(df=False), ""),
        (syn(df=False, ip_id=0), "id-"),
        (syn(ip_reserved=True), "df,id+,0+"),
        (syn(tos=0xFC), "df,id+"),
        (syn(tos=0x01), "df,id+,ecn"),
        (syn(tos=0x02), "df,id+,ecn"),
        (syn(flags=SYN | ECE), "df,id+,ecn"),
        (syn(flags=SYN | CWR), "df,id+,ecn"),
        (syn(flags=SYN | NS), "df,id+,ecn"),
        (syn(seq=0), "df,id+,seq-"),
        # Every bit counts: p0f 3.09b reads only one.
        (syn(ack=2), "df,id+,ack+"),
        (syn(ack=0x01000000), "df,id+,ack+"),
        (syn(flags=SYN | ACK, ack=0), "df,id+,ack-"),
        (syn(flags=SYN | ACK, ack=5), "df,id+"),
        (syn(urgent=1), "df,id+,uptr+"),
        (syn(flags=SYN | URG, urgent=1), "df,id+,urgf+"),
        (syn(flags=SYN | PSH), "df,id+,pushf+"),
        (syn(options=MSS + b"\x08\x0a" + bytes(8) + b"\x01\x01"), "df,id+,ts1-"),
        (syn(options=b"\x08\x0a" + b"\x00\x00\x00\x01" * 2), "df,id+,ts2+"),
        # A SYN-ACK echoes the client's timestamp, so this is no quirk.
        (syn(flags=SYN | ACK, ack=1, options=b"\x08\x0a" + b"\x00\x00\x00\x01" * 2), "df,id+"),
        (syn(options=b"\x00\x00\x00\x00"), "df,id+"),
        (syn(options=b"\x00\x00\x07\x00"), "df,id+,opt+"),
        (syn(options=b"\x00\x00\x00\x07"), "df,id+,opt+"),
        (syn(options=b"\x01\x03\x03\x0e"), "df,id+"),
        (syn(options=b"\x01\x03\x03\x0f"), "df,id+,exws"),
        (syn(options=b"\x02\x04\x05"), "df,id+,bad"),
        (syn(options=b"\x01" * 24), "df,id+"),
        (syn(options=b"\x01" * 28), "df,id+,bad"),
        (syn6(), "flow"),
        (syn6(flow_label=0), ""),
        (syn6(tos=0x03), "ecn,flow"),
    ],
)
def test_a_packet_has_the_quirks_of_p0f(syn_packet: SynPacket, quirks: str) -> None:
    assert p0f.observe(syn_packet).signature.split(":")[6] == quirks


@pytest.mark.parametrize(
    ("syn_packet", "syn_mss", "window"),
    [
        (syn(window=0), None, "0"),
        (syn(window=14600), None, "mss*10"),
        (syn(window=99 * 5, options=b"\x02\x04\x00\x63"), None, "495"),
        (syn(window=100 * 5, options=b"\x02\x04\x00\x64"), None, "mss*5"),
        # The MSS without the space for timestamps, only if the packet has a timestamp of its own.
        (syn(window=1388 * 10, options=b"\x02\x04\x05\x78" + OWN_TIMESTAMP), None, "mss*10"),
        (syn(window=1388 * 10, options=b"\x02\x04\x05\x78"), None, "13880"),
        # The MSS of Ethernet, with and without timestamps.
        (syn(window=1460 * 3, options=b"\x02\x04\x05\x78"), None, "mss*3"),
        (syn(window=1448 * 3, options=b"\x02\x04\x05\x78"), None, "mss*3"),
        (syn(window=1440 * 7, options=b"\x02\x04\x05\x8c"), None, "10080"),
        (syn6(window=1440 * 7, options=b"\x02\x04\x05\x8c"), None, "mss*7"),
        (syn6(window=1428 * 7, options=b"\x02\x04\x05\x8c"), None, "mss*7"),
        # MTUs: the MSS with the smallest headers, with the headers of this packet, of Ethernet.
        (syn(window=1440 * 11, options=b"\x02\x04\x05\x78"), None, "mtu*11"),
        (syn(window=1444 * 11, options=b"\x02\x04\x05\x78"), None, "mtu*11"),
        (syn6(window=1460 * 11, options=b"\x02\x04\x05\x78"), None, "mss*11"),
        (syn(window=1500 * 2, options=MSS), None, "mtu*2"),
        # The MSS of the peer, in a SYN-ACK.
        (syn(window=1300 * 7, options=MSS), None, "9100"),
        (syn(window=1300 * 7, options=MSS), 1300, "mss*7"),
        (syn(window=1288 * 7, options=MSS), 1300, "mss*7"),
        (syn(window=1289, options=MSS), 12, "1289"),
        (syn(window=1289, options=MSS), 0, "1289"),
    ],
)
def test_a_window_is_written_as_a_multiple(
    syn_packet: SynPacket, syn_mss: int | None, window: str
) -> None:
    assert p0f.observe(syn_packet, syn_mss).signature.split(":")[4].split(",")[0] == window


@pytest.mark.parametrize(
    ("ttl", "initial", "hops"),
    [
        (0, 32, 32),
        (32, 32, 0),
        (33, 64, 31),
        (64, 64, 0),
        (65, 128, 63),
        (128, 128, 0),
        (129, 255, 64),
        (255, 255, 0),
    ],
)
def test_a_ttl_shows_initial_value_and_distance(ttl: int, initial: int, hops: int) -> None:
    assert p0f.initial_ttl(ttl) == initial
    assert p0f.hop_distance(ttl) == hops


@given(ANY)
def test_a_raw_signature_can_be_parsed_as_a_signature(syn_packet: SynPacket) -> None:
    observation = p0f.observe(syn_packet)
    pasted = observation.signature.replace("+?:", "+0:", 1)
    if pasted.startswith("4:0+"):
        pasted = pasted.replace("4:0+", "4:1+", 1)
    label = p0f_db.Label(generic=False, os_class="unix", name="x", flavor="")
    signature = p0f_db.parse_signature(pasted, label, observation.direction, 1)
    assert signature.layout == observation.layout
    assert signature.quirks == observation.quirks
    assert signature.padding == observation.padding


@needs_corpus
def test_labelled_packets_have_the_signatures_that_p0f_printed() -> None:
    expected = labelled_packets()
    checked = set()
    syn_mss = {}
    for sent in sent_packets(CORPUS / "syn_os.pcap"):
        port = sent.sport if sent.is_syn else sent.dport
        observation = p0f.observe(sent.syn_packet, None if sent.is_syn else syn_mss[port])
        if sent.is_syn:
            syn_mss[port] = observation.mss
        if sent.is_syn == (expected[port]["direction"] == "syn"):
            assert observation.signature == expected[port]["p0f_raw_sig"], expected[port]["id"]
            checked.add(port)
    assert checked == set(expected)
