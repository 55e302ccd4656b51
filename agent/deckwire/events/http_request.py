"""http_request: one request of HTTP/1 in the clear, with the answer to it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from deckwire.events.choices import Choices
from deckwire.events.client import key_part, wire_text
from deckwire.events.context import Context, Fields, Parts
from deckwire.events.event import INFORMATIONAL, Event, Headline
from deckwire.events.redaction import REDACTED
from deckwire.events.ssh_banner import ROLE_REVERSED
from deckwire.fingerprints.ja4h import ja4h
from deckwire.http.reader import Answer, Request

_SEPARATORS = re.compile(rb"[&;]")


def headline(
    context: Context,
    time_ns: int,
    request: Request,
    choices: Choices,
    *,
    proven: bool = True,
) -> Headline:
    """Everything that deduplication needs of the event."""
    method = wire_text(request.line.method)
    key = "|".join(
        (
            str(context.ends.server_port),
            key_part(method),
            key_part(wire_text(_without_values(request.line.target))),
            sha256(request.body).hexdigest() if request.body else "",
        )
    )
    return Headline(
        "http_request",
        time_ns,
        context.host,
        context.source,
        context.fingerprint(key, choices),
        INFORMATIONAL,
        f"{method} {wire_text(request.line.target)}",
        proven=proven,
    )


def http_event(
    headline: Headline,
    context: Context,
    request: Request,
    answer: Answer | None,
    *,
    number: int,
    is_reversed: bool,
    choices: Choices,
    unseen: bool = False,
    redacted: bool = False,
) -> Event:
    """Make the event of a request; `number` is its place among those of its connection.

    `is_reversed` says that the client of HTTP did not open the connection. `redacted` says that
    credentials were replaced in the request. Then it has no JA4H if it has cookies, because their
    hash in it has no key.
    """
    line, headers = request.line, request.headers
    parts: Parts = [
        context.addresses(),
        ("method", wire_text(line.method)),
        ("path", wire_text(line.target)),
        ("version", line.version),
        *_texts(request, ("host", b"host"), ("user_agent", b"user-agent"), ("referer", b"referer")),
    ]
    if request.whole:
        parts.append(("header_order", tuple([wire_text(name) for name, _ in headers])))
    parts += _body(request)
    if answer is not None:
        parts.append(("status", answer.status))
        server = answer.headers.get(b"server")
        if server is not None:
            parts.append(("server", wire_text(server)))
    if request.whole and choices.ja4plus and not (redacted and _has_cookies(request)):
        parts.append(("ja4h", ja4h(request)))
    if is_reversed:
        parts.append(ROLE_REVERSED)
    if redacted:
        parts.append(REDACTED)
    parts.append(context.tail(unseen=unseen))
    return headline.event(parts, f"{context.conn_id} {number}")


def needs_redaction(request: Request, cleaned: Request) -> bool:
    """Whether credentials are missing in the event of `cleaned`, which was made of `request`."""
    return cleaned != request or _has_cookies(request)


def _has_cookies(request: Request) -> bool:
    return request.headers.get(b"cookie") is not None


def _texts(request: Request, *names: tuple[str, bytes]) -> Fields:
    """The fields whose headers were sent."""
    found = [(name, request.headers.get(header)) for name, header in names]
    return [(name, wire_text(value)) for name, value in found if value is not None]


def _body(request: Request) -> Fields:
    """The body of a request; the one place where its bytes become fields."""
    fields: Fields = []
    if request.body_length is not None:
        fields.append(("body_length", request.body_length))
    if request.body:
        fields.append(("body", b64encode(request.body).decode()))
    return fields


def _without_values(target: bytes) -> bytes:
    """A target with the names in its query, but not their values."""
    path, mark, query = target.partition(b"?")
    names = [part.partition(b"=")[0] for part in _SEPARATORS.split(query)]
    return path + mark + b"&".join(names)
