"""Recognise scanning tools that build their own SYN packets by the values in the headers.

Ordinary kernels send an MSS, window scale, SACK-permitted and "don't fragment" with every SYN. Each
rule here needs traits that no kernel combines. Tools that connect through the kernel of their host
(``nmap -sT``, curl, most bots) look like that kernel; `connect_scans` recognises those of nmap.
docs/systems.md has a table of tools, traits and limits.
"""

from __future__ import annotations

from typing import NamedTuple

from deckwire.fingerprints.p0f import initial_ttl
from deckwire.tcp import options as tcp_options
from deckwire.tcp.options import (
    EOL,
    MSS,
    NOP,
    SACK_PERMITTED,
    TIMESTAMPS,
    WSCALE,
    TcpOptions,
)
from deckwire.tcp.syn_packet import ACK, SYN, SynPacket


class Tool(NamedTuple):
    """A tool and the traits that it was recognised by."""

    name: str
    evidence: str
    """Traits joined with ``; ``."""


_BARE_LAYOUTS = ((), (MSS,))
"""Option layouts of the tools that compute one field from others."""
_ZMAP_ID = 54321
_ZMAP_WINDOW = 65535
_ETHERNET_MSS = 1460
# ZMap 4.1 and newer: layout and window scale of each --probe-args, and the system it imitates.
_ZMAP_TEMPLATES = {
    ((MSS,), None): "no system's",
    ((MSS, NOP, WSCALE, NOP, NOP, SACK_PERMITTED), 8): "Windows'",
    ((MSS, SACK_PERMITTED, TIMESTAMPS, NOP, WSCALE), 7): "Linux's",
    ((MSS, NOP, WSCALE, NOP, NOP, TIMESTAMPS, SACK_PERMITTED, EOL), 6): "macOS's",
}
_WINDOWS_TTL = 128

_NMAP_SCAN_WINDOWS = (1024, 2048, 3072, 4096)
_NMAP_SCAN_TTL = 64
# nmap's OS detection (nmap book, "TCP/IP Fingerprinting Methods"): window, MSS, scale and layout.
_NMAP_FULL = (WSCALE, NOP, MSS, TIMESTAMPS, SACK_PERMITTED)
_NMAP_OS_PROBES = {
    (1, 1460, 10, _NMAP_FULL): "SEQ probe 1",
    (63, 1400, 0, (MSS, WSCALE, SACK_PERMITTED, TIMESTAMPS, EOL)): "SEQ probe 2",
    (4, 640, 5, (TIMESTAMPS, NOP, NOP, WSCALE, NOP, MSS)): "SEQ probe 3",
    (4, None, 10, (SACK_PERMITTED, TIMESTAMPS, WSCALE, EOL)): "SEQ probe 4",
    (16, 536, 10, (MSS, SACK_PERMITTED, TIMESTAMPS, WSCALE, EOL)): "SEQ probe 5",
    (512, 265, None, (MSS, SACK_PERMITTED, TIMESTAMPS)): "SEQ probe 6",
    (3, 1460, 10, (WSCALE, NOP, MSS, SACK_PERMITTED, NOP, NOP)): "ECN probe",
    (256, 265, 10, _NMAP_FULL): "T3 probe",
    (31337, 265, 10, _NMAP_FULL): "T5 probe",
}

_HPING_WINDOW = 512
_HPING_LAYOUTS = ((), (NOP, NOP, TIMESTAMPS))
_UNICORNSCAN_WINDOW = 4128
_SCAPY_WINDOW = 8192
_SCAPY_ID = 1

TOOL_IP_IDS = frozenset({0, _SCAPY_ID, _ZMAP_ID})
"""IP identifications that `by_traits` compares with; all others are equal to it."""


def has_relations(syn_packet: SynPacket) -> bool:
    """Return whether `by_relations` applies; it does not apply to SYN packets of kernels."""
    return (
        syn_packet.ip_version == 4
        and _is_syn(syn_packet)
        and tcp_options.read(syn_packet.options).layout in _BARE_LAYOUTS
    )


def by_relations(syn_packet: SynPacket, destination: bytes, dport: int) -> Tool | None:
    """Return the tool that computed one field of a SYN from others; stronger than `by_traits`.

    `destination` is the destination address of the SYN, 16 bytes, IPv4 as IPv4-mapped.
    """
    if not has_relations(syn_packet):
        return None
    options = tcp_options.read(syn_packet.options)
    ipv4 = int.from_bytes(destination[-4:], "big")
    return _mirai(syn_packet, options, ipv4) or _masscan(syn_packet, options, ipv4, dport)


def by_traits(syn_packet: SynPacket) -> Tool | None:
    """Return the tool whose SYN packets combine values that no kernel combines.

    The sequence number does not count. The IP identification counts only if it is one of
    TOOL_IP_IDS, and the acknowledgment number only by being 0 or not.
    """
    if not _is_syn(syn_packet):
        return None
    options = tcp_options.read(syn_packet.options)
    return (
        _zmap(syn_packet, options)
        or _nmap_os_probe(syn_packet, options)
        or _nmap_scan(syn_packet, options)
        or _hping(syn_packet, options)
        or _unicornscan(syn_packet, options)
        or _scapy(syn_packet, options)
    )


def _is_syn(syn_packet: SynPacket) -> bool:
    return bool(syn_packet.flags & SYN) and not syn_packet.flags & ACK


def _mirai(syn_packet: SynPacket, options: TcpOptions, destination: int) -> Tool | None:
    if options.layout or syn_packet.seq != destination:
        return None
    return _tool("mirai", "sequence number is the destination address", "no options")


def _masscan(
    syn_packet: SynPacket, options: TcpOptions, destination: int, dport: int
) -> Tool | None:
    if syn_packet.df or syn_packet.ip_id != (destination ^ dport ^ syn_packet.seq) & 0xFFFF:
        return None
    return _tool(
        "masscan",
        "ip id is destination address ^ port ^ sequence number",
        "only an MSS" if options.layout else "no options",
        f"window {syn_packet.window}",
        f"ttl {syn_packet.ttl}",
    )


def _zmap(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    if syn_packet.ip_version != 4 or syn_packet.df or syn_packet.window != _ZMAP_WINDOW:
        return None
    if syn_packet.ip_id == _ZMAP_ID:
        return _tool("zmap", f"ip id {_ZMAP_ID}", f"window {_ZMAP_WINDOW}", "no don't-fragment")
    imitated = _ZMAP_TEMPLATES.get((options.layout, options.wscale))
    if imitated is None or options.mss != _ETHERNET_MSS or syn_packet.ip_id == 0:
        return None
    if imitated == "Windows'" and initial_ttl(syn_packet.ttl) == _WINDOWS_TTL:
        return None  # Windows itself: the network cleared don't-fragment
    return _tool(
        "zmap",
        f"{imitated} options",
        f"window {_ZMAP_WINDOW}",
        "no don't-fragment",
        f"ttl {syn_packet.ttl}",
    )


def _nmap_os_probe(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    probe = _NMAP_OS_PROBES.get((syn_packet.window, options.mss, options.wscale, options.layout))
    if probe is None:
        return None
    return _tool("nmap", f"OS detection, {probe}", f"window {syn_packet.window} and its options")


def _nmap_scan(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    if syn_packet.window not in _NMAP_SCAN_WINDOWS or options.layout != (MSS,):
        return None
    if options.mss != _ETHERNET_MSS or syn_packet.df or syn_packet.ack != 0:
        return None
    # Over IPv4 nmap starts from a random TTL of 37 to 59, over IPv6 from the highest hop limit.
    if syn_packet.ip_version == 4 and syn_packet.ttl > _NMAP_SCAN_TTL:
        return None
    return _tool(
        "nmap",
        "SYN scan",
        f"window {syn_packet.window}",
        f"only an MSS of {_ETHERNET_MSS}",
        *(("no don't-fragment",) if syn_packet.ip_version == 4 else ()),
        f"ttl {syn_packet.ttl}",
    )


def _hping(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    if syn_packet.ip_version != 4 or syn_packet.df or syn_packet.window != _HPING_WINDOW:
        return None
    if options.layout not in _HPING_LAYOUTS:
        return None
    return _tool(
        "hping",
        f"window {_HPING_WINDOW}",
        "only timestamps" if options.layout else "no options",
        "no don't-fragment",
        *(("acknowledgment number without ACK",) if syn_packet.ack != 0 else ()),
    )


def _unicornscan(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    if syn_packet.ip_version != 4 or syn_packet.df or syn_packet.window != _UNICORNSCAN_WINDOW:
        return None
    if (
        options.layout != (MSS,)
        or options.mss != _ETHERNET_MSS
        or initial_ttl(syn_packet.ttl) != 255
    ):
        return None
    # It imitates the stack of Cisco IOS, which sets don't-fragment with an MSS of 1460.
    return _tool(
        "unicornscan",
        f"window {_UNICORNSCAN_WINDOW}",
        f"only an MSS of {_ETHERNET_MSS}",
        "no don't-fragment",
        f"ttl {syn_packet.ttl}",
    )


def _scapy(syn_packet: SynPacket, options: TcpOptions) -> Tool | None:
    if syn_packet.ip_version != 4 or syn_packet.df or syn_packet.window != _SCAPY_WINDOW:
        return None
    if options.layout or syn_packet.ip_id != _SCAPY_ID:
        return None
    return _tool("scapy", f"window {_SCAPY_WINDOW}", f"ip id {_SCAPY_ID}", "no options")


def _tool(name: str, *traits: str) -> Tool:
    return Tool(name, "; ".join(traits))
