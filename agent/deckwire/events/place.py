"""Where an event of a connection belongs: whose decky, which way, which connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from deckwire.community_id import community_id
from deckwire.deckies import Registry
from deckwire.event import Value
from deckwire.flow import Ends, address_text

Fields = list[tuple[str, Value]]


@dataclass(slots=True)
class Place:
    """What every event of one connection says of it."""

    ends: Ends
    host: str
    """Name of the decky addressed; of the decky that opened it if that is the only one."""
    direction: str
    """inbound, outbound or lateral."""
    source: str
    destination: str
    _tail: Fields = field(default_factory=list)

    @property
    def conn_id(self) -> str:
        """Community ID v1 of the 4-tuple."""
        ends = self.ends
        return community_id(ends.client, ends.server, ends.client_port, ends.server_port)

    def addresses(self) -> Fields:
        """The four fields that every event of a connection begins with."""
        return [
            ("src_ip", self.source),
            ("src_port", self.ends.client_port),
            ("dst_ip", self.destination),
            ("dst_port", self.ends.server_port),
        ]

    def tail(self) -> Fields:
        """The fields that every event of a connection ends with."""
        if not self._tail:
            # Not before: only events that are told need the hash.
            self._tail = [("direction", self.direction), ("conn_id", self.conn_id)]
        return self._tail


def locate(registry: Registry, ends: Ends) -> Place | None:
    """The place of a connection; None if neither end is a decky."""
    addressed = registry.name_of(ends.server)
    opener = registry.name_of(ends.client)
    if addressed is not None:
        host, direction = addressed, "inbound" if opener is None else "lateral"
    elif opener is not None:
        host, direction = opener, "outbound"
    else:
        return None
    return Place(
        ends,
        host,
        direction,
        address_text(ends.client),
        address_text(ends.server),
    )
