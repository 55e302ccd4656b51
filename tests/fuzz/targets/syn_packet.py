"""All TCP fingerprints of any SYN packet: formats and ranges."""

from __future__ import annotations

import re

from deckwire.fingerprints import ja4plus, p0f, p0f_db
from deckwire.fingerprints.identity import Identifier
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket
from tests.fuzz.feed import Feed
from tests.fuzz.material import SYN_OPTIONS

_IDENTIFIER = Identifier(p0f_db.load_own())
_JA4T = re.compile(r"\d+_(00|\d+(-\d+)*)_\d{2,5}_(00|\d+)")
_P0F = re.compile(r"[46]:\d+\+(\d+|\?):\d+:[\d*]+:[^:]+,\d+:[^: ]*:[^: ]*:[0+]")
_GUESSES = {
    "linux",
    "windows",
    "macos_ios",
    "freebsd",
    "openbsd",
    "embedded",
    "nmap",
    "unknown",
}


def seeds() -> list[bytes]:
    heads = [
        bytes([4, 64, 0, 0, 0, 1, 0]) + bytes(6) + b"\x01\xbb" + bytes(7) + b"\0\x02\xfa\xf0\0\0\0",
        bytes([6, 255, 0xFF, 9, 9, 3, 40])
        + b"\xff" * 6
        + b"\0\x50"
        + bytes(7)
        + b"\0\xc2\x04\0\0\0\1",
    ]
    return [head + options for head in heads for options in SYN_OPTIONS]


def check(data: bytes) -> None:
    feed = Feed(data)
    syn_packet = SynPacket(
        time_ns=0,
        ip_version=6 if feed.number(1) & 2 else 4,
        ttl=feed.number(1),
        tos=feed.number(1),
        ip_id=feed.number(2),
        df=bool(feed.number(1) & 1),
        ip_reserved=False,
        ip_options_len=feed.number(1),
        flow_label=feed.number(2),
        seq=feed.number(4),
        ack=feed.number(2),
        flags=feed.number(2) & 0xFFF,
        window=feed.number(2),
        urgent=feed.number(1),
        payload_len=feed.number(2),
        options=feed.take(40),
    )
    options = tcp_options.walk(syn_packet.options)
    assert len(options.layout) <= len(syn_packet.options)
    assert bool(options.layout) == bool(syn_packet.options)
    assert options.layout.count(tcp_options.EOL) <= 1
    if options.padding is not None:
        assert options.layout[-1] == tcp_options.EOL
        assert 0 <= options.padding_zeros <= options.padding < len(syn_packet.options)
    signature = tcp_options.options_sig(options)
    assert len(signature) == max(2 * len(options.layout) - 1, 0)
    assert set(signature) <= set("MWTSNEAU?,")
    assert _JA4T.fullmatch(ja4plus.ja4t(syn_packet.window, options))
    assert syn_packet.ttl <= p0f.initial_ttl(syn_packet.ttl) <= 255
    assert 0 <= p0f.hop_distance(syn_packet.ttl) <= 64
    identity = _IDENTIFIER.identify(syn_packet, b"\xc0\0\2\1", syn_packet.seq & 0xFFFF)
    assert _P0F.fullmatch(identity.p0f_sig), identity.p0f_sig
    assert identity.os_guess in _GUESSES
    assert (identity.os is None) == (identity.os_class is None)
    assert identity.tool is None or identity.os is None
    assert (identity.tool is None) == (identity.tool_evidence is None)
