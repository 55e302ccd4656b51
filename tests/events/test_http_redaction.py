from __future__ import annotations

import json
from base64 import b64decode

import pytest

from deckwire.events.choices import Choices
from deckwire.events.event import Event
from deckwire.events.http_redaction import without_credentials
from deckwire.events.http_request import headline, http_event, needs_redaction
from deckwire.events.redaction import Redactor
from deckwire.http.reader import Request, RequestReader
from tests.support import http_wire
from tests.support.event_samples import TIME_NS, context
from tests.support.payload_wire import base64

REDACTOR = Redactor(bytes(32), ("outbound",))
BASIC = b"Basic " + base64(b"bobby:hunter2")


def request(target: bytes = b"/", body: bytes = b"", *headers: tuple[bytes, bytes]) -> Request:
    wire = http_wire.request(target, method=b"POST", headers=headers, body=body)
    (found,) = RequestReader().feed(wire)
    return found


def event(found: Request, *, redacted: bool) -> Event:
    head = headline(context(), TIME_NS, found, Choices())
    return http_event(
        *(head, context(), found, None),
        number=0,
        is_reversed=False,
        choices=Choices(),
        redacted=redacted,
    )


@pytest.mark.parametrize(
    "found",
    [
        request(b"/?user=bobby&password=hunter2"),
        request(b"http://bobby:hunter2@192.0.2.1/"),
        request(b"/", b"log=bobby&pwd=hunter2"),
        request(b"/", json.dumps({"username": "bobby", "password": "hunter2"}).encode()),
        request(b"/", b"", (b"Referer", b"http://x/?token=hunter2&user=bobby")),
        # Repeated outside of where they belong.
        request(b"/home/bobby/hunter2", b"bobby hunter2", (b"Authorization", BASIC)),
        request(b"/hunter2bobby", b"", (b"Cookie", b"hunter2bobby")),
    ],
)
def test_no_credential_is_left(found: Request) -> None:
    cleaned = without_credentials(found, REDACTOR)
    assert needs_redaction(found, cleaned)
    made = event(cleaned, redacted=True)
    fields = dict(made.fields)
    shown = (
        f"{fields!r} {made.fingerprint!r} {made.label!r} {b64decode(str(fields.get('body', '')))!r}"
    )
    assert "bobby" not in shown
    assert "hunter2" not in shown
    assert fields["redacted"] is True


def test_a_request_without_credentials_stays_as_it_is() -> None:
    found = request(b"/?q=1", b"a=b", (b"Host", b"x"), (b"Authorization", BASIC))
    cleaned = without_credentials(found, REDACTOR)
    assert cleaned == found
    assert not needs_redaction(found, cleaned)


def test_the_hash_of_cookies_is_left_out() -> None:
    found = request(b"/", b"", (b"Cookie", b"sid=1"))
    cleaned = without_credentials(found, REDACTOR)
    assert needs_redaction(found, cleaned)
    assert "ja4h" not in dict(event(cleaned, redacted=True).fields)
    assert "ja4h" in dict(event(found, redacted=False).fields)
    plain = request(b"/?token=abcd")
    assert "ja4h" in dict(event(without_credentials(plain, REDACTOR), redacted=True).fields)
