"""The fields of a SYN-ACK packet, computed once for all that a stack sends alike."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from deckwire.events.choices import Choices
from deckwire.events.context import Fields
from deckwire.events.event import Block
from deckwire.fingerprints import ja4plus
from deckwire.fingerprints.identity import ServerIdentity
from deckwire.limits import OPTION_WALKS
from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import SynPacket


class ServerStack(NamedTuple):
    """The finished fields of all SYN-ACK packets that share a server identity."""

    ja4ts: Block
    """Empty if JA4+ methods are off."""
    system: Block
    """server_p0f_sig, and server_os and server_os_class if they are known."""


def describe(identity: ServerIdentity, synack: SynPacket, choices: Choices) -> ServerStack:
    """Compute the fields; every SYN-ACK packet of one identity gives equal fields.

    Identifier.identify_synack gives that identity.
    """
    system: Fields = [("server_p0f_sig", identity.p0f_sig)]
    if identity.os is not None:
        system.append(("server_os", identity.os))
    if identity.os_class is not None:
        system.append(("server_os_class", identity.os_class))
    return ServerStack(ja4ts_field(synack) if choices.ja4plus else Block(()), Block(system))


def ja4ts_field(synack: SynPacket) -> Block:
    """ja4ts for the handshake and session events (a JA4+ method)."""
    return _ja4ts(synack.window, tcp_options.alike(synack.options))


# There are few kinds: the stack of a decky sends one or two.
@lru_cache(maxsize=OPTION_WALKS)
def _ja4ts(window: int, options: bytes) -> Block:
    return Block((("ja4ts", ja4plus.ja4t(window, tcp_options.walk(options))),))
