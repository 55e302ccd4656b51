"""Lines of JSON, whatever a peer puts into their fields."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import SCHEMA, Block, Event
from deckwire.limits import LINE_BYTES, VALUE_BYTES
from deckwire.output.escape import Escape
from deckwire.output.json_lines import JsonFormat

TIME_NS = 1_795_489_286_453_503_999
ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
VALUES = st.one_of(
    ANY_TEXT,
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(ANY_TEXT, max_size=5).map(tuple),
)
shown = Escape({"\\": "\\"})


def event(*fields: tuple[str, object], **more: object) -> Event:
    given_ = {"name": "tls_client_hello", "time_ns": TIME_NS, "host": "decky-01"} | more
    return Event(parts=fields, **given_)  # type: ignore[arg-type]


def test_the_whole_line() -> None:
    given = event(
        ("src_ip", "192.0.2.1"),
        ("src_port", 4711),
        ("sni", ""),
        ("alpn", ("h2", "http/1.1")),
        ("sans", ()),
        ("rtt", 0.0),
        ("ech", True),
    )
    assert JsonFormat().line(given) == (
        b'{"ts": "2026-11-24T03:01:26.453503+00:00", "host": "decky-01",'
        b' "event": "tls_client_hello", "severity": 6, "fields": {"src_ip": "192.0.2.1",'
        b' "src_port": 4711, "sni": "", "alpn": ["h2", "http/1.1"], "sans": [], "rtt": 0.0,'
        b' "ech": true}}'
    )


def test_an_event_without_fields() -> None:
    assert json.loads(JsonFormat().line(event()))["fields"] == {}


def test_a_number_that_json_does_not_have_is_text() -> None:
    fields = json.loads(JsonFormat().line(event(("a", float("nan")), ("b", float("inf")))))
    assert fields["fields"] == {"a": "nan", "b": "inf"}


def test_a_line_drops_whole_fields_from_its_end_and_says_so() -> None:
    line = JsonFormat().line(event(*((f"f{number}", "v" * 2000) for number in range(6))))
    assert len(line) <= LINE_BYTES
    assert list(json.loads(line)["fields"].items()) == [
        *((f"f{number}", "v" * 2000) for number in range(3)),
        ("cut", True),
    ]


def test_the_stamp_is_last_and_survives_a_cut() -> None:
    stamped = {"sensor": 'a"\u00fcb', "event_id": "0f" * 16}
    last = {"sensor": 'a"\u00fcb', "event_id": "0f" * 16, "schema": SCHEMA}
    for fields in ([], [("z", 1)], [Block(())], [Block((("y", 1),)), ("z", 1)]):
        given_ = event(*fields, **stamped)
        found = json.loads(JsonFormat().line(given_))["fields"]
        assert list(found.items()) == [*given_.fields, *last.items()]
    line = JsonFormat().line(event(*((f"f{n}", "\u00fc" * 1000) for n in range(6)), **stamped))
    assert len(line) <= LINE_BYTES
    found = json.loads(line)["fields"]
    assert list(found) == ["f0", "f1", "f2", "cut", *last]
    assert found["cut"] is True
    assert last.items() <= found.items()


def test_a_list_is_cut_between_items_and_says_so() -> None:
    line = JsonFormat().line(event(("sans", tuple(f"host{n}.example" for n in range(1000)))))
    sans = json.loads(line)["fields"]["sans"]
    assert sans[-1] == "..."
    assert sans[:-1] == [f"host{n}.example" for n in range(len(sans) - 1)]
    assert VALUE_BYTES - 40 < len(json.dumps(sans)) <= VALUE_BYTES


def test_a_list_of_one_endless_item() -> None:
    for count in (1, 2):
        line = JsonFormat().line(event(("sans", ('"' * 5000,) * count)))
        sans = json.loads(line)["fields"]["sans"]
        assert sans[0].endswith('"...')
        assert sans[1:] == ["..."] * (count - 1)


@given(ANY_TEXT, ANY_TEXT, st.lists(VALUES, max_size=6))
def test_any_event_parses_back_to_its_escaped_form(
    host: str, name: str, values: list[object]
) -> None:
    fields = [(f"f{number}", value) for number, value in enumerate(values)]
    line = JsonFormat().line(event(*fields, host=host, name=name))
    assert len(line) <= LINE_BYTES
    assert line.decode("utf-8").isprintable()
    read = json.loads(line)
    assert (read["host"], read["event"]) == (shown(host), shown(name))
    for field, value in fields:
        if field not in read["fields"]:
            assert read["fields"]["cut"] is True
        elif isinstance(value, str):
            assert read["fields"][field] == shown(value)
        elif isinstance(value, tuple):
            assert read["fields"][field][:1] == [shown(item) for item in value][:1]
        else:
            assert read["fields"][field] == value
            assert type(read["fields"][field]) is type(value)
