"""The finished fields that events share, each computed once for equal objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from deckwire.events import certificate as certificate_fields
from deckwire.events import client as client_fields
from deckwire.events import server as server_fields
from deckwire.events import server_stack as server_stack_fields
from deckwire.events import stack as stack_fields
from deckwire.events.choices import Choices
from deckwire.events.context import Context
from deckwire.events.memo import Described
from deckwire.events.server_stack import ServerStack
from deckwire.events.stack import Stack
from deckwire.fingerprints.identity import Identifier, Identity, ServerIdentity
from deckwire.limits import STACKS
from deckwire.resilience.bounded import Bounded
from deckwire.tcp.handshake import Handshake
from deckwire.tcp.syn_packet import SynPacket
from deckwire.tls.hello_cache import is_short
from deckwire.x509.cache import CertificateCache
from deckwire.x509.cache import is_kept as certificate_is_kept
from deckwire.x509.cache import memory as certificate_memory

_K = TypeVar("_K")
_D = TypeVar("_D")


class Descriptions:
    """Fields of clients, servers, stacks and certificates, kept within bounds."""

    def __init__(self, identifier: Identifier, choices: Choices) -> None:
        self.client = _described(client_fields.describe, choices, is_short, client_fields.memory)
        """The fields of a ClientHello."""
        self.server = _described(server_fields.describe, choices, is_short, server_fields.memory)
        """The fields of a ServerHello."""
        self.leaf = _described(
            certificate_fields.describe, choices, certificate_is_kept, certificate_memory
        )
        """The fields of a chain's first certificate."""
        self.certificate = CertificateCache().describe
        """The description of a certificate in DER."""
        self._identifier = identifier
        self._identity: Described[Identity, Stack] = _described(stack_fields.describe, choices)
        self._server_identity: Described[ServerIdentity, ServerStack] = _described(
            server_stack_fields.describe, choices
        )
        self._stacks: Bounded[int, Stack] = Bounded(STACKS)

    def stack(self, context: Context, syn: SynPacket, signature: int) -> Stack:
        """The client's stack. Equal kernel signatures mean equal systems and tools."""
        stack = self._stacks.get(signature)
        if stack is None:
            ends = context.ends
            identity = self._identifier.identify(syn, ends.server, ends.server_port)
            stack = self._identity(identity, syn)
            if signature:
                self._stacks.put(signature, stack)
        return stack

    def server_stack(self, handshake: Handshake) -> ServerStack | None:
        """The server's stack; None without a whole SYN-ACK packet."""
        if handshake.synack is None or handshake.synack.options_cut:
            return None
        identity = self._identifier.identify_synack(handshake.synack, handshake.syn)
        return self._server_identity(identity, handshake.synack)


def _described(
    describe: Callable[..., _D],
    choices: Choices,
    keeps: Callable[[_K], bool] = lambda _: True,
    memory: Callable[[_K], int] = lambda _: 0,
) -> Described[_K, _D]:
    return Described(partial(describe, choices=choices), keeps, memory)
