"""Replaces the credentials in a request of HTTP before its fields are made."""

from __future__ import annotations

from deckwire.events.redaction import Redactor
from deckwire.http.messages import Headers
from deckwire.http.reader import Request
from deckwire.payloads.http_secrets import header_values, places

_SHOWN = (b"host", b"user-agent", b"referer")
"""Headers whose values are fields."""


def without_credentials(request: Request, redactor: Redactor) -> Request:
    """The request without credentials in what its event shows.

    They are found in the target, in the body and in the headers that are shown. What the other
    headers have is replaced where it is repeated.
    """
    line, headers = request.line, request.headers
    texts = [line.target, request.body]
    texts += [value for name in _SHOWN for value in headers.all(name)]
    values = header_values(headers)
    values |= {text[start:end] for text in texts for start, end in places(text)}

    def clean(text: bytes) -> bytes:
        return redactor.data(text, places(text), values).data

    return request._replace(
        line=line._replace(method=clean(line.method), target=clean(line.target)),
        headers=Headers(
            [(name, clean(value) if _is_shown(name) else value) for name, value in headers]
        ),
        body=clean(request.body),
    )


def _is_shown(name: bytes) -> bool:
    return name.rstrip().lower() in _SHOWN
