"""SYN and SYN-ACK packets as SynPacket values: from capture files, or built by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from deckwire.captures import CaptureError, CaptureFile, ethernet
from deckwire.tcp.syn_packet import ACK, SYN, SynPacket

_ETHERTYPES = {0x0800: 4, 0x86DD: 6}
_VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")
_TCP = 6
_OPTIONS_HEADERS = (0, 60)
"""Hop-by-hop and destination options of IPv6 (RFC 8200, 4)."""
MAPPED = bytes(10) + b"\xff\xff"
"""Prefix of an IPv4-mapped address (RFC 4291, 2.5.5.2)."""


class Sent(NamedTuple):
    """A SYN or SYN-ACK packet with its 4-tuple; addresses have 16 bytes as in the pipeline."""

    syn_packet: SynPacket
    source: bytes
    destination: bytes
    sport: int
    dport: int

    @property
    def is_syn(self) -> bool:
        return not self.syn_packet.flags & ACK


def pcap_frames(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield time (ns) and bytes of each frame of a pcap file, without a frame cut at the end."""
    order = "<" if content[0] in (0xD4, 0x4D) else ">"
    unit = 1 if content[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1000
    at = 24
    while at + 16 <= len(content):
        seconds, fraction, length = struct.unpack_from(f"{order}III", content, at)
        at += 16
        if at + length <= len(content):
            yield seconds * 10**9 + fraction * unit, content[at : at + length]
        at += length


def sent_packets(path: Path) -> list[Sent]:
    """Return the SYN and SYN-ACK packets over Ethernet in a pcap file."""
    found = []
    for time_ns, frame in pcap_frames(path.read_bytes()):
        sent = sent_in(frame, time_ns)
        if sent is not None:
            found.append(sent)
    return found


def syns_of(path: Path) -> list[Sent]:
    """Return the SYN packets in a capture of any format."""
    found = []
    with suppress(CaptureError), CaptureFile(path) as capture:
        for frame in capture:
            framed = ethernet(frame)
            sent = None if framed is None else sent_in(framed, frame.time_ns)
            if sent is not None and sent.is_syn:
                found.append(sent)
    return found


def sent_in(frame: bytes, time_ns: int = 0) -> Sent | None:
    """Return the SYN or SYN-ACK packet in an Ethernet frame with or without VLAN tags, or None."""
    while frame[12:14] in _VLAN_TAGS:
        frame = frame[:12] + frame[16:]
    version = _ETHERTYPES.get(int.from_bytes(frame[12:14], "big"))
    packet = frame[14:]
    if version == 4 and len(packet) >= 20:
        header = (packet[0] & 0x0F) * 4
        _, tos, total, ip_id, fragment, ttl, protocol = struct.unpack_from("!BBHHHBB", packet)
        source, destination = MAPPED + packet[12:16], MAPPED + packet[16:20]
        flow_label, options_len = 0, header - 20
    elif version == 6 and len(packet) >= 40:
        first, length, protocol, ttl = struct.unpack_from("!IHBB", packet)
        tos, flow_label, header = first >> 20 & 0xFF, first & 0xFFFFF, 40
        while protocol in _OPTIONS_HEADERS and len(packet) >= header + 8:
            protocol, header = packet[header], header + 8 + 8 * packet[header + 1]
        source, destination = packet[8:24], packet[24:40]
        total, ip_id, fragment, options_len = 40 + length, 0, 0, 0
    else:
        return None
    if protocol != _TCP or fragment & 0x1FFF:
        return None
    # A length of 0 means that the network card cuts the packet into segments.
    segment = packet[header : total or None]
    if len(segment) < 20:
        return None
    sport, dport, seq, ack, word, window, _, urgent = struct.unpack_from("!HHIIHHHH", segment)
    if not word & SYN:
        return None
    offset = (word >> 12) * 4
    return Sent(
        SynPacket(
            time_ns=time_ns,
            ip_version=version,
            ttl=ttl,
            tos=tos,
            ip_id=ip_id,
            df=bool(fragment & 0x4000),
            ip_reserved=bool(fragment & 0x8000),
            ip_options_len=options_len,
            flow_label=flow_label,
            seq=seq,
            ack=ack,
            flags=word & 0x0FFF,
            window=window,
            urgent=urgent,
            options=segment[20:offset],
            payload_len=len(segment) - offset,
        ),
        source,
        destination,
        sport,
        dport,
    )


MSS = b"\x02\x04\x05\xb4"
"""The option MSS with a value of 1460."""
LINUX = MSS + b"\x04\x02\x08\x0a\x00\x00\x10\x01\x00\x00\x00\x00\x01\x03\x03\x07"
WINDOWS = MSS + b"\x01\x03\x03\x08\x01\x01\x04\x02"
MACOS = MSS + b"\x01\x03\x03\x06\x01\x01\x08\x0a\x00\x00\x10\x01\x00\x00\x00\x00\x04\x02\x00\x00"

_LINUX_SYN = SynPacket(
    time_ns=0,
    ip_version=4,
    ttl=64,
    tos=0,
    ip_id=0x1234,
    df=True,
    ip_reserved=False,
    ip_options_len=0,
    flow_label=0,
    seq=0x01020304,
    ack=0,
    flags=SYN,
    window=64240,
    urgent=0,
    options=LINUX,
    payload_len=0,
)


def syn(**changes: Any) -> SynPacket:
    """Return the SYN packet of a Linux host on Ethernet, with changes."""
    return replace(_LINUX_SYN, **changes)


def syn6(**changes: Any) -> SynPacket:
    """Return the SYN packet of a Linux host on Ethernet over IPv6, with changes."""
    ipv6: dict[str, Any] = {
        "ip_version": 6,
        "ip_id": 0,
        "df": False,
        "flow_label": 0x12345,
        "window": 64800,
    }
    ipv6["options"] = b"\x02\x04\x05\xa0" + LINUX[4:]
    return syn(**{**ipv6, **changes})
