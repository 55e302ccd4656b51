"""A SYN-ACK in the fields of events: computed once for all that its stack answers."""

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
    """The finished fields of all SYN-ACKs that share an answer."""

    ja4ts: Block
    """Empty without the methods of JA4+."""
    system: Block
    """server_p0f_sig, and server_os and server_os_class where they are known."""


def describe(answer: ServerIdentity, synack: SynPacket, choices: Choices) -> ServerStack:
    """Pure: any SYN-ACK of an answer gives the same (see Identifier.identify_synack)."""
    system: Fields = [("server_p0f_sig", answer.p0f_sig)]
    if answer.os is not None:
        system.append(("server_os", answer.os))
    if answer.os_class is not None:
        system.append(("server_os_class", answer.os_class))
    return ServerStack(ja4ts_field(synack) if choices.ja4plus else Block(()), Block(system))


def ja4ts_field(synack: SynPacket) -> Block:
    """ja4ts, as handshake and session tell it (a JA4+ method)."""
    return _ja4ts(synack.window, tcp_options.alike(synack.options))


# Of far fewer kinds than connections: a decky's stack answers with one or two.
@lru_cache(maxsize=OPTION_WALKS)
def _ja4ts(window: int, options: bytes) -> Block:
    return Block((("ja4ts", ja4plus.ja4t(window, tcp_options.walk(options))),))
