"""A SYN-ACK in the fields of events: computed once for all that its stack answers."""

from __future__ import annotations

from typing import NamedTuple

from deckwire.event import Block
from deckwire.events.choices import Choices
from deckwire.events.place import Fields
from deckwire.fingerprints import ja4plus, tcp_options
from deckwire.fingerprints.identity import Answer
from deckwire.opening import Opening


class Answerer(NamedTuple):
    """The finished fields of all SYN-ACKs that share an answer."""

    ja4ts: Block
    """Empty without the methods of JA4+."""
    system: Block
    """server_p0f_sig, and server_os and server_os_class where they are known."""


def describe(answer: Answer, synack: Opening, choices: Choices) -> Answerer:
    """Pure: any SYN-ACK of an answer gives the same (see Identifier.identify_answer)."""
    ja4ts: Fields = []
    if choices.ja4plus:
        options = tcp_options.read(synack.options)
        ja4ts.append(("ja4ts", ja4plus.ja4t(synack.window, options)))
    system: Fields = [("server_p0f_sig", answer.p0f_sig)]
    if answer.os is not None:
        system.append(("server_os", answer.os))
    if answer.os_class is not None:
        system.append(("server_os_class", answer.os_class))
    return Answerer(Block(ja4ts), Block(system))
