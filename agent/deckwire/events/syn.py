"""tcp_syn_fingerprint: what a SYN tells of the system or tool that sent it."""

from __future__ import annotations

from deckwire.event import Event, Headline
from deckwire.events.choices import Choices
from deckwire.events.place import Fields, Place
from deckwire.fingerprints import ja4plus, p0f, tcp_options
from deckwire.fingerprints.identity import Identity
from deckwire.opening import Opening


def headline(place: Place, time_ns: int, syn: Opening, identity: Identity) -> Headline:
    """What it is deduplicated by."""
    options = tcp_options.read(syn.options)
    return Headline(
        "tcp_syn_fingerprint",
        time_ns,
        place.host,
        place.source,
        f"{identity.os_guess}|{tcp_options.options_sig(options)}",
    )


def syn_event(
    told: Headline, place: Place, syn: Opening, identity: Identity, choices: Choices
) -> Event:
    """One SYN; `told` has its wall-clock time."""
    options = tcp_options.read(syn.options)
    fields = place.addresses()
    fields += [
        ("ttl", syn.ttl),
        ("initial_ttl", p0f.initial_ttl(syn.ttl)),
        ("hop_distance", p0f.hop_distance(syn.ttl)),
        ("window", syn.window),
        ("mss", options.mss or 0),
        ("wscale", "" if options.wscale is None else options.wscale),
        ("options_sig", tcp_options.options_sig(options)),
        ("has_sack", options.sack_permitted),
        ("has_timestamps", options.timestamp is not None),
        ("os_guess", identity.os_guess),
    ]
    if choices.ja4plus:
        fields.append(("ja4t", ja4plus.ja4t(syn.window, options)))
    fields.append(("p0f_sig", identity.p0f_sig))
    fields += _known(identity)
    fields.append(("ip_version", syn.ip_version))
    if syn.ip_version == 4:
        fields += [("ip_id", syn.ip_id), ("df", syn.df)]
    fields += [("dscp", syn.tos >> 2), ("ecn", syn.tos & 3)]
    fields += place.tail()
    return told.event(fields)


def _known(identity: Identity) -> Fields:
    """What was recognised: a field that has nothing to say is left out."""
    named = (
        ("os", identity.os),
        ("os_class", identity.os_class),
        ("link", identity.link),
        ("tool", identity.tool),
        ("tool_evidence", identity.tool_evidence),
    )
    return [(name, value) for name, value in named if value is not None]
