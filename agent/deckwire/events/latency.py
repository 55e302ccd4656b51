"""The fields for a connection's round-trip times."""

from __future__ import annotations

from functools import lru_cache

from deckwire.events.event import Block
from deckwire.fingerprints import ja4plus
from deckwire.limits import LATENCIES
from deckwire.tcp.handshake import Handshake

_NOTHING = Block(())


def kept_fields(handshake: Handshake) -> Block:
    """ja4l_rtt_ms if it is known, and ja4l_client_ttl; nothing if half the handshake is missing."""
    if handshake.syn is None or handshake.synack is None:
        return _NOTHING
    rtt_ns = handshake.rtt_server_ns
    return _kept(None if rtt_ns is None else round(rtt_ns / 1e6, 2), handshake.syn.ttl)


# Two or three events of a connection share these, and so do clients with equal round trips.


@lru_cache(maxsize=LATENCIES)
def _kept(rtt_ms: float | None, ttl: int) -> Block:
    client_ttl = ("ja4l_client_ttl", ttl)
    return Block((client_ttl,) if rtt_ms is None else (("ja4l_rtt_ms", rtt_ms), client_ttl))


@lru_cache(maxsize=LATENCIES)
def rtt_fields(client_us: int | None, server_us: int | None) -> Block:
    """rtt_client_us and rtt_server_us, each if it is known."""
    named = (("rtt_client_us", client_us), ("rtt_server_us", server_us))
    return Block([(name, rtt_us) for name, rtt_us in named if rtt_us is not None])


def handshake_fields(handshake: Handshake, *, ja4plus: bool) -> Block:
    """Round-trip times, TTLs and retransmissions of tcp_handshake, each if it is known.

    The server's round-trip time comes first. `ja4plus` is whether JA4+ methods are on.
    """
    syn, synack = handshake.syn, handshake.synack
    rtts = rtt_fields(handshake.rtt_client_us, handshake.rtt_server_us)
    fields = [*reversed(rtts.fields)]
    if ja4plus:
        fields += reversed(ja4l_fields(handshake).fields)
    if syn is not None:
        fields.append(("client_ttl", syn.ttl))
    if synack is not None:
        fields.append(("server_ttl", synack.ttl))
    if syn is not None:
        fields.append(("syn_retransmits", handshake.syn_retransmits))
    if synack is not None:
        fields.append(("synack_retransmits", handshake.synack_retransmits))
    return Block(fields, plain=True)


def ja4l_fields(handshake: Handshake) -> Block:
    """ja4l_c and ja4l_s, each if it is known (a JA4+ method)."""
    return _ja4l(
        handshake.rtt_client_us,
        handshake.syn.ttl if handshake.syn is not None else None,
        handshake.rtt_server_us,
        handshake.synack.ttl if handshake.synack is not None else None,
    )


@lru_cache(maxsize=LATENCIES)
def _ja4l(
    client_us: int | None, client_ttl: int | None, server_us: int | None, server_ttl: int | None
) -> Block:
    named = (("ja4l_c", client_us, client_ttl), ("ja4l_s", server_us, server_ttl))
    return Block(
        [
            (name, ja4plus.ja4l(rtt_us, ttl))
            for name, rtt_us, ttl in named
            if rtt_us is not None and ttl is not None
        ]
    )
