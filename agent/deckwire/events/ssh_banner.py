"""ssh_client_banner and ssh_server_banner: what the two ends of SSH say before it is encrypted."""

from __future__ import annotations

from deckwire.events.choices import Choices
from deckwire.events.client import wire_text
from deckwire.events.context import Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, WARNING, Event, Headline
from deckwire.fingerprints import hassh
from deckwire.ssh.messages import KexInit

ROLE_REVERSED = ("role_reversed", True)
"""Of an event of SSH whose client is the end that did not open the connection."""


def headline(
    context: Context,
    time_ns: int,
    *,
    is_client: bool,
    banner: bytes,
    kexinit: KexInit | None,
    choices: Choices,
    proven: bool = True,
) -> Headline:
    """Everything that deduplication needs of the event. What anybody can forge is no warning."""
    shown = wire_text(banner)
    digest = ""
    if kexinit is not None:
        digest = hassh.hassh(hassh.algorithms(kexinit, of_client=is_client))
    fingerprint = context.fingerprint(f"{shown}|{digest}", choices)
    severity = WARNING if is_client and proven else INFORMATIONAL
    facts = time_ns, context.host, context.source, fingerprint, severity, shown
    if is_client:
        return Headline("ssh_client_banner", *facts, proven=proven)
    return Headline("ssh_server_banner", *facts, proven=proven)


def ssh_event(
    headline: Headline,
    context: Context,
    *,
    is_client: bool,
    is_reversed: bool,
    banner: bytes,
    kexinit: KexInit | None,
    unseen: bool = False,
) -> Event:
    """Make the event of one end. A KEXINIT that is None was not seen.

    `is_reversed` says that the SSH client did not open the connection.
    """
    parts: Parts = [context.addresses(), ("ssh_version", wire_text(banner))]
    if kexinit is not None:
        parts += _offer(kexinit, is_client=is_client)
    if is_reversed:
        parts.append(ROLE_REVERSED)
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts, context.conn_id)


def _offer(kexinit: KexInit, *, is_client: bool) -> Fields:
    lists = hassh.algorithms(kexinit, of_client=is_client)
    digest, text = hassh.hassh(lists), wire_text(lists)
    fields: Fields = (
        [("hassh", digest), ("hassh_algorithms", text)]
        if is_client
        else [("hassh_server", digest), ("hassh_server_algorithms", text)]
    )
    if kexinit.is_strict:
        fields.append(("strict_kex", True))
    if kexinit.has_extensions:
        fields.append(("ext_info", True))
    return fields
