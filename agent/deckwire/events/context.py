"""The context of a connection's events: decky, direction and addresses."""

from __future__ import annotations

from dataclasses import dataclass

from deckwire.deckies import Registry
from deckwire.events.choices import Choices
from deckwire.events.event import Block, Field, Part
from deckwire.tcp.addresses import address_text
from deckwire.tcp.community_id import TCP, community_id
from deckwire.tcp.flow import Ends

Fields = list[Field]
Parts = list[Part]

UNSEEN: Field = ("handshake", "unseen")
"""Of an event of a connection whose handshake was not seen: anybody can forge its packets."""
REVERSED: Field = ("tls_client", "server")
"""Of an event of TLS whose client is the end that did not open the connection."""


@dataclass(slots=True)
class Context:
    """The facts that all events of one connection share, or of datagrams with ports."""

    ends: Ends
    host: str
    """Name of the decky that is the server; else of the decky that opened the connection."""
    direction: str
    """inbound, outbound or lateral."""
    source: str
    """Address of the client; of the peer if `turned`."""
    destination: str
    protocol: int = TCP
    """The number of the protocol over IP."""
    turned: bool = False
    """A decky opened the connection, and the peer is its source all the same."""
    _addresses: Block | None = None
    _tail: Block | None = None
    _conn_id: str = ""

    # All three are made on demand, because only events that are emitted need them.

    @property
    def conn_id(self) -> str:
        """Community ID v1 of the 4-tuple."""
        if not self._conn_id:
            ends = self.ends
            self._conn_id = community_id(
                ends.client, ends.server, ends.client_port, ends.server_port, self.protocol
            )
        return self._conn_id

    def addresses(self) -> Block:
        """The four fields at the beginning of every event of a connection."""
        if self._addresses is None:
            ports = self.ends.client_port, self.ends.server_port
            source_port, destination_port = reversed(ports) if self.turned else ports
            self._addresses = Block(
                (
                    ("src_ip", self.source),
                    ("src_port", source_port),
                    ("dst_ip", self.destination),
                    ("dst_port", destination_port),
                ),
                plain=True,
            )
        return self._addresses

    def bare_addresses(self) -> Block:
        """The addresses alone, for a packet without ports."""
        return Block((("src_ip", self.source), ("dst_ip", self.destination)))

    @property
    def service(self) -> str:
        """Address and port of the server, for a person."""
        host = f"[{self.destination}]" if ":" in self.destination else self.destination
        return f"{host}:{self.ends.server_port}"

    def fingerprint(self, of_event: str, choices: Choices) -> str:
        """The dedup key of an event that is one for each decky; the old sniffer's had no decky."""
        return of_event if choices.decnet else f"{self.destination}|{of_event}"

    def tail(self, *, unseen: bool = False) -> Block:
        """The fields at the end of every event of a connection; `unseen` is its handshake."""
        if unseen:
            return Block((UNSEEN, *self.tail().fields))
        if self._tail is None:
            self._tail = Block(
                (("direction", self.direction), ("conn_id", self.conn_id)), plain=True
            )
        return self._tail


def locate(registry: Registry, ends: Ends, *, peer_first: bool = False) -> Context | None:
    """The context of a connection; None if neither end is a decky.

    With `peer_first`, the peer is the source of a connection that a decky opened.
    """
    addressed = registry.name_of(ends.server)
    opener = registry.name_of(ends.client)
    if addressed is not None:
        host, direction = addressed, "inbound" if opener is None else "lateral"
    elif opener is not None:
        host, direction = opener, "outbound"
    else:
        return None
    client, server = address_text(ends.client), address_text(ends.server)
    if peer_first and direction == "outbound":
        return Context(ends, host, direction, server, client, turned=True)
    return Context(ends, host, direction, client, server)
