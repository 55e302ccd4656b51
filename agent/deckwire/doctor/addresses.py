"""Addresses of deckies that the registry lacks: what connects to those makes no event."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from deckwire.deckies import Registry
from deckwire.doctor.finding import Finding
from deckwire.kernel import rtnetlink
from deckwire.kernel.macvlans import Search
from deckwire.kernel.rtnetlink import Interface
from deckwire.limits import DECKIES
from deckwire.tcp.addresses import MAPPED_PREFIX, address_text

_LISTED = 20


def examine_addresses(parent: int, registry: Registry) -> Iterator[Finding]:
    """The findings on the macvlans of a parent that have an address in the registry.

    `parent` is an ifindex of the calling thread's network namespace. A macvlan without such an
    address is no decky. Namespaces that cannot be searched are another finding's.
    """
    known: set[bytes] = set()
    missing: dict[bytes, str] = {}

    def visit(_path: str, channel: socket.socket, found: list[Interface]) -> None:
        by_interface: dict[int, list[bytes]] = {one.ifindex: [] for one in found}
        for ifindex, address in rtnetlink.list_addresses(channel):
            if ifindex in by_interface:
                packed = address if len(address) == 16 else MAPPED_PREFIX + address
                by_interface[ifindex].append(packed)
        for addresses in by_interface.values():
            names = [name for name in map(registry.name_of, addresses) if name is not None]
            if names and len(missing) < DECKIES:
                known.update(address for address in addresses if address in registry)
                missing.update(
                    (address, names[0]) for address in addresses if address not in registry
                )

    try:
        Search((parent,), visit)
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding("note", "addresses", f"addresses of deckies cannot be listed: {reason}")
        return
    if missing:
        named = [f"{address_text(address)} of {name}" for address, name in missing.items()]
        more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
        yield Finding(
            "note",
            "addresses",
            f"not in the registry, so not watched: {', '.join(named[:_LISTED])}{more}",
            "add them under the names of their deckies",
        )
    elif known:
        yield Finding(
            "ok", "addresses", f"{len(known)} of deckies on the interface, all in the registry"
        )
    else:
        yield Finding("note", "addresses", "no macvlan with an address in the registry was found")
