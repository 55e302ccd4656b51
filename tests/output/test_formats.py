"""The formats by name, each made once."""

from __future__ import annotations

import json

import pytest

from deckwire.events.event import Event
from deckwire.options import FORMATS
from deckwire.output.formats import DECNET_JSON, Formats, Headers
from deckwire.output.sinks.spec import TWIN

EVENT = Event("tls_session", 0, "web", (("src_ip", "192.0.2.1"), ("n", 1)))
OTHER = Headers(app_name="other", sd_id="relay@55555", procid="7")


def test_every_format_that_can_be_set_can_be_made() -> None:
    formats = Formats()
    for name in FORMATS:
        assert formats.get(name, Headers()).line(EVENT)
    assert TWIN == DECNET_JSON


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_made_once_for_the_same_headers(name: str) -> None:
    formats = Formats()
    first = formats.get(name, Headers())
    assert formats.get(name, Headers()) is first
    assert (formats.get(name, OTHER) is first) == (name in ("json", "ecs"))


def test_headers_are_in_the_line() -> None:
    formats = Formats()
    assert b" other 7 tls_session [relay@55555 " in formats.get("syslog", OTHER).line(EVENT)
    record = json.loads(formats.get(DECNET_JSON, OTHER).line(EVENT))
    assert record["service"] == "other"
    assert record["raw_line"].encode() == formats.get("syslog", OTHER).line(EVENT)


def test_wrong_headers_are_refused() -> None:
    with pytest.raises(ValueError, match="PROCID"):
        Formats().get("syslog", Headers(procid="a b"))
