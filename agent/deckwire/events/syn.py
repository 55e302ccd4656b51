"""tcp_syn_fingerprint: what a SYN tells of the system or tool that sent it."""

from __future__ import annotations

from deckwire.event import Event, Headline
from deckwire.events.place import Parts, Place
from deckwire.events.stack import Stack
from deckwire.opening import Opening


def headline(place: Place, time_ns: int, stack: Stack) -> Headline:
    """What it is deduplicated by."""
    return Headline("tcp_syn_fingerprint", time_ns, place.host, place.source, stack.fingerprint)


def syn_event(told: Headline, place: Place, syn: Opening, stack: Stack) -> Event:
    """One SYN; `told` has its wall-clock time."""
    parts: Parts = [place.addresses(), stack.before_id]
    if syn.ip_version == 4:
        parts.append(("ip_id", syn.ip_id))
    parts += [stack.after_id, place.tail()]
    return told.event(parts)
