"""Scanning tools are recognised by their SYN packets, and nothing else is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints.scanners import Tool, by_relations, by_traits
from deckwire.tcp.syn_packet import ACK, CWR, ECE, FIN, PSH, SYN, URG, SynPacket
from tests.support.fingerprint_frames import (
    LINUX,
    MACOS,
    MAPPED,
    MSS,
    WINDOWS,
    sent_packets,
    syn,
    syn6,
)
from tests.support.shared import CORPUS, needs_corpus

DECKY = MAPPED + bytes([192, 0, 2, 77])
DECKY6 = bytes([0x20, 0x01, 0x0D, 0xB8]) * 4
DECKY_NUMBER = int.from_bytes(DECKY[-4:], "big")
PORT = 8443
TIMESTAMPS = b"\x08\x0a\xff\xff\xff\xff\x00\x00\x00\x00"


def raw(**changes: object) -> SynPacket:
    """Return a SYN packet as tools build it: no options, DF not set, a random IP id."""
    return syn(**{"options": b"", "df": False, "ttl": 250, "window": 1024, **changes})


def recognise(syn_packet: SynPacket, destination: bytes, dport: int) -> Tool | None:
    """Combine both functions like Identifier."""
    return by_relations(syn_packet, destination, dport) or by_traits(syn_packet)


def tool(syn_packet: SynPacket) -> str | None:
    found = recognise(syn_packet, DECKY, PORT)
    return found.name if found else None


def masscan_id(seq: int) -> int:
    return (DECKY_NUMBER ^ PORT ^ seq) & 0xFFFF


@pytest.mark.parametrize(
    ("syn_packet", "name", "traits"),
    [
        (
            raw(seq=0xA6143EB3, ip_id=masscan_id(0xA6143EB3)),
            "masscan",
            "ip id is destination address ^ port ^ sequence number; no options; window 1024"
            "; ttl 250",
        ),
        (
            raw(seq=7, ip_id=masscan_id(7), options=MSS),
            "masscan",
            "ip id is destination address ^ port ^ sequence number; only an MSS; window 1024"
            "; ttl 250",
        ),
        (
            raw(ip_id=54321, window=65535),
            "zmap",
            "ip id 54321; window 65535; no don't-fragment",
        ),
        (
            raw(ip_id=54321, window=65535, options=MSS),
            "zmap",
            "ip id 54321; window 65535; no don't-fragment",
        ),
        (
            raw(window=65535, options=MSS, ttl=50),
            "zmap",
            "no system's options; window 65535; no don't-fragment; ttl 50",
        ),
        (
            raw(window=65535, options=WINDOWS, ttl=50),
            "zmap",
            "Windows' options; window 65535; no don't-fragment; ttl 50",
        ),
        (
            raw(window=65535, options=LINUX, ttl=50),
            "zmap",
            "Linux's options; window 65535; no don't-fragment; ttl 50",
        ),
        (
            raw(window=65535, options=MACOS, ttl=50),
            "zmap",
            "macOS's options; window 65535; no don't-fragment; ttl 50",
        ),
        (
            raw(options=MSS, ttl=44),
            "nmap",
            "SYN scan; window 1024; only an MSS of 1460; no don't-fragment; ttl 44",
        ),
        (
            syn6(options=MSS, window=1024, ttl=250, flow_label=0),
            "nmap",
            "SYN scan; window 1024; only an MSS of 1460; ttl 250",
        ),
        (
            raw(window=512, ttl=60, ack=99),
            "hping",
            "window 512; no options; no don't-fragment; acknowledgment number without ACK",
        ),
        (
            raw(window=512, ttl=60),
            "hping",
            "window 512; no options; no don't-fragment",
        ),
        (
            raw(window=512, ttl=60, ack=99, options=b"\x01\x01" + TIMESTAMPS),
            "hping",
            "window 512; only timestamps; no don't-fragment; acknowledgment number without ACK",
        ),
        (
            raw(window=4128, options=MSS),
            "unicornscan",
            "window 4128; only an MSS of 1460; no don't-fragment; ttl 250",
        ),
        (
            raw(window=8192, ip_id=1, ttl=60, seq=0),
            "scapy",
            "window 8192; ip id 1; no options",
        ),
        (
            raw(seq=DECKY_NUMBER, window=31000, ttl=50),
            "mirai",
            "sequence number is the destination address; no options",
        ),
    ],
)
def test_a_tool_is_recognised_with_its_evidence(
    syn_packet: SynPacket, name: str, traits: str
) -> None:
    assert recognise(syn_packet, DECKY, PORT) == (name, traits)


@pytest.mark.parametrize("window", [1024, 2048, 3072, 4096])
def test_each_window_of_nmap_is_recognised(window: int) -> None:
    assert tool(raw(options=MSS, ttl=50, window=window)) == "nmap"


WS10, SOK = b"\x03\x03\x0a", b"\x04\x02"


@pytest.mark.parametrize(
    ("probe", "syn_packet"),
    [
        ("SEQ probe 1", raw(window=1, options=WS10 + b"\x01" + MSS + TIMESTAMPS + SOK)),
        (
            "SEQ probe 2",
            raw(window=63, options=b"\x02\x04\x05\x78\x03\x03\x00" + SOK + TIMESTAMPS + b"\x00"),
        ),
        (
            "SEQ probe 3",
            raw(window=4, options=TIMESTAMPS + b"\x01\x01\x03\x03\x05\x01\x02\x04\x02\x80"),
        ),
        ("SEQ probe 4", raw(window=4, options=SOK + TIMESTAMPS + WS10 + b"\x00")),
        (
            "SEQ probe 5",
            raw(window=16, options=b"\x02\x04\x02\x18" + SOK + TIMESTAMPS + WS10 + b"\x00"),
        ),
        ("SEQ probe 6", raw(window=512, options=b"\x02\x04\x01\x09" + SOK + TIMESTAMPS)),
        (
            "ECN probe",
            raw(
                window=3,
                flags=SYN | ECE | CWR | 0x800,
                urgent=0xF7F5,
                options=WS10 + b"\x01" + MSS + SOK + b"\x01\x01",
            ),
        ),
        (
            "T3 probe",
            raw(
                window=256,
                flags=SYN | FIN | URG | PSH,
                options=WS10 + b"\x01\x02\x04\x01\x09" + TIMESTAMPS + SOK,
            ),
        ),
        (
            "T5 probe",
            raw(window=31337, options=WS10 + b"\x01\x02\x04\x01\x09" + TIMESTAMPS + SOK),
        ),
    ],
)
def test_each_probe_of_nmaps_os_detection_is_recognised(probe: str, syn_packet: SynPacket) -> None:
    found = recognise(syn_packet, DECKY, PORT)
    assert found is not None
    assert found.name == "nmap"
    assert probe in found.evidence


@pytest.mark.parametrize(
    "syn_packet",
    [
        syn(),
        syn6(),
        syn(df=False),
        syn(ttl=120, options=WINDOWS),
        syn(ttl=120, options=WINDOWS, window=65535),
        # Windows after a network cleared DF.
        syn(ttl=120, options=WINDOWS, window=65535, df=False),
        syn(options=MACOS, window=65535, ip_id=0),
        # macOS after a network cleared DF still has an IP id of 0.
        syn(options=MACOS, window=65535, ip_id=0, df=False),
        # A value of a tool in the packet of a kernel.
        syn(ip_id=54321),
        syn(ip_id=54321, window=65535),
        syn(ip_id=masscan_id(0x01020304)),
        syn(seq=DECKY_NUMBER),
        syn(window=512),
        syn(window=1024),
        syn(options=MSS, window=1024),
        # Embedded stacks and routers.
        raw(options=MSS, window=5840, ttl=255),
        raw(options=b"\x02\x04\x02\x18", window=4128, ttl=255),
        raw(options=MSS, window=4128, df=True, ttl=255),
        raw(options=MSS, window=1024, ttl=128),
        raw(window=1025),
        raw(window=65535),
    ],
)
def test_another_sender_is_no_tool(syn_packet: SynPacket) -> None:
    assert recognise(syn_packet, DECKY, PORT) is None


@pytest.mark.parametrize(
    "of_a_tool",
    [
        {"seq": 7, "ip_id": masscan_id(7)},
        {"ip_id": 54321, "window": 65535},
        {"options": MSS, "ttl": 50},
        {"seq": DECKY_NUMBER},
    ],
)
def test_other_packets_than_syns_are_no_scans(of_a_tool: dict[str, object]) -> None:
    assert tool(raw(**of_a_tool)) is not None
    assert tool(raw(**of_a_tool, flags=SYN | ACK)) is None
    assert tool(raw(**of_a_tool, flags=FIN)) is None


@given(
    st.binary(max_size=40),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.booleans(),
    st.sampled_from([(4, DECKY), (6, DECKY6)]),
)
def test_any_syn_packet_gives_a_tool_with_evidence_or_none(
    options: bytes, window: int, ip_id: int, df: bool, to: tuple[int, bytes]
) -> None:
    syn_packet = syn(options=options, window=window, ip_id=ip_id, df=df, ip_version=to[0])
    found = recognise(syn_packet, to[1], PORT)
    assert found is None or (found.name and found.evidence)


def test_evidence_is_printable_ascii() -> None:
    found = recognise(raw(window=512, ack=1), DECKY, PORT)
    assert found is not None
    assert found.evidence.isascii()
    assert found.evidence.isprintable()


@needs_corpus
def test_ordinary_traffic_shows_no_tools() -> None:
    """No packet in the captures of ordinary traffic is taken for one of a tool."""
    for path in sorted((CORPUS / "pcap").glob("*.pcap")):
        content = path.read_bytes()[:24]
        if struct.unpack("<I", content[:4]) != (0xA1B2C3D4,) or content[20] != 1:
            continue  # not a classic pcap of Ethernet frames
        for sent in sent_packets(path):
            assert recognise(sent.syn_packet, sent.destination, sent.dport) is None, path.name
