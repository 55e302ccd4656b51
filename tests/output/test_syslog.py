"""Lines of RFC 5424, whatever a peer puts into their fields."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import SCHEMA, WARNING, Event
from deckwire.limits import LINE_BYTES, VALUE_BYTES
from deckwire.output.escape import Escape
from deckwire.output.syslog import SyslogFormat

TIME_NS = 1_795_489_286_453_503_999
ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
# Built from RFC 5424 section 6, stricter where events.md is: UTC, microseconds, one element.
HEADER = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00)"
    r" (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32})"
    r' \[(?P<id>[^\x00-\x20=\]"\x7f-]{1,32})'
)
PARAM = re.compile(r' (?P<name>[^\x00-\x20=\]"\x7f]{1,32})="(?P<value>(?:[^"\\\]]|\\["\\\]])*)"')


def parse(line: bytes) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """A line's header and its parameters, unescaped."""
    text = line.decode("utf-8")
    header = HEADER.match(text)
    assert header, text
    position = header.end()
    params: list[tuple[str, str]] = []
    while param := PARAM.match(text, position):
        params.append((param["name"], re.sub(r'\\(["\\\]])', r"\1", param["value"])))
        position = param.end()
    assert text[position:] == "]", text[position:]
    return header.groupdict(), params


def event(*fields: tuple[str, object], **more: object) -> Event:
    given_ = {"name": "tls_client_hello", "time_ns": TIME_NS, "host": "decky-01"} | more
    return Event(parts=fields, **given_)  # type: ignore[arg-type]


def test_the_whole_line() -> None:
    given = event(
        ("src_ip", "192.0.2.1"),
        ("src_port", 4711),
        ("sni", ""),
        ("alpn", ("h2", "http/1.1")),
        ("rtt", 0.0),
        ("ech", True),
        ("df", False),
    )
    assert SyslogFormat().line(given) == (
        b"<134>1 2026-11-24T03:01:26.453503+00:00 decky-01 sniffer - tls_client_hello"
        b' [decnet@55555 src_ip="192.0.2.1" src_port="4711" sni="" alpn="h2,http/1.1" rtt="0.0"'
        b' ech="true" df="false"]'
    )


def test_severity_names_and_empty_host() -> None:
    form = SyslogFormat(app_name="deckwire", sd_id="x@1.2")
    header, params = parse(form.line(event(severity=WARNING, host="", name="n" * 40)))
    assert header["pri"] == "132"
    assert header["host"] == "-"
    assert (header["app"], header["proc"]) == ("deckwire", "-")
    assert (header["id"], header["msgid"]) == ("x@1.2", "n" * 32)
    assert params == []


def test_a_host_cannot_break_the_header() -> None:
    header, _ = parse(SyslogFormat().line(event(host="a b\nc" + "h" * 300)))
    assert header["host"] == "a?b?c" + "h" * 250


def test_a_forged_line_stays_inside_its_value() -> None:
    sni = 'x"] \n<134>1 2026-01-01T00:00:00Z evil - - - \x1b[2J\\ \udcff\u202e'
    line = SyslogFormat().line(event(("sni", sni), ("alpn", "h2")))
    assert b"\n" not in line
    assert (
        rb'sni="x\"\] \\x0a<134>1 2026-01-01T00:00:00Z evil - - - \\x1b[2J\\ \\xff\\xe2\\x80\\xae"'
        in line
    )
    assert parse(line)[1][1] == ("alpn", "h2")


def test_the_relay_never_sees_a_bracket_in_a_value() -> None:
    line = SyslogFormat(sd_id="relay@55555").line(event(("sni", "a]b"), ("alpn", "]" * 5000)))
    assert rb'sni="a\\x5db"' in line
    assert line.count(b"]") == 1
    assert len(parse(line)[1][1][1]) < VALUE_BYTES


def test_a_value_is_cut_and_says_so() -> None:
    (_, value), (last, _) = parse(SyslogFormat().line(event(("sni", "a" * 9000), ("z", 1))))[1]
    assert value == "a" * (VALUE_BYTES - 3) + "..."
    assert last == "z"


def test_a_line_drops_whole_fields_from_its_end_and_says_so() -> None:
    fields = [(f"f{number}", "v" * 2000) for number in range(6)]
    line = SyslogFormat().line(event(*fields))
    assert len(line) <= LINE_BYTES
    assert parse(line)[1] == [*fields[:3], ("cut", "true")]


def test_a_line_of_exactly_the_limit_is_not_cut() -> None:
    form = SyslogFormat()
    start = [(f"f{number}", "v" * 2000) for number in range(3)]
    rest = LINE_BYTES - len(form.line(event(*start, ("z", ""))))
    exact = form.line(event(*start, ("z", "v" * rest)))
    assert len(exact) == LINE_BYTES
    assert parse(exact)[1][-1] == ("z", "v" * rest)
    assert parse(form.line(event(*start, ("z", "v" * (rest + 1)))))[1] == [*start, ("cut", "true")]


def test_many_short_plain_fields_are_cut_too() -> None:
    fields = [(f"a_rather_long_name_{number}", "v") for number in range(600)]
    line = SyslogFormat().line(event(*fields))
    assert LINE_BYTES - 40 < len(line) <= LINE_BYTES
    params = parse(line)[1]
    assert params == [*fields[: len(params) - 1], ("cut", "true")]


def test_the_stamp_is_last_and_survives_a_cut() -> None:
    stamped = {"sensor": 'a]"b', "event_id": "0f" * 16}
    last = [("sensor", 'a]"b'), ("event_id", "0f" * 16), ("schema", str(SCHEMA))]
    assert parse(SyslogFormat().line(event(("z", 1), **stamped)))[1] == [("z", "1"), *last]
    assert parse(SyslogFormat().line(event(**stamped)))[1] == last
    fields = [(f"f{number}", "v" * 2000) for number in range(6)]
    for form in (SyslogFormat(), SyslogFormat(sd_id="relay@55555")):
        line = form.line(event(*fields, **stamped))
        assert LINE_BYTES - 2010 < len(line) <= LINE_BYTES
        *kept, cut, sensor, event_id, schema = parse(line)[1]
        assert kept == fields[:3]
        assert cut == ("cut", "true")
        assert (event_id, schema) == tuple(last[1:])
        assert sensor[1].startswith("a")


@pytest.mark.parametrize("size", range(1_800, 1_900, 7))
def test_a_stamped_line_has_room_up_to_the_limit(size: int) -> None:
    fields = [("a", "v" * 2000), ("b", "v" * 2000), ("c", "v" * 2000), ("d", "v" * size)]
    line = SyslogFormat().line(event(*fields, sensor="s" * 64, event_id="0f" * 16))
    params = parse(line)[1]
    assert len(line) <= LINE_BYTES
    assert (params[3][0] == "cut") is (params[3] != fields[3])
    if params[3][0] == "cut":
        assert len(line) + len(' d=""') + size - len(' cut="true"') > LINE_BYTES


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"sd_id": "decnet"}, "'decnet' is no SD-ID; use NAME@NUMBER"),
        ({"sd_id": "a b@1"}, "is no SD-ID"),
        ({"sd_id": "a=b@1"}, "is no SD-ID"),
        ({"sd_id": 'a"@1'}, "is no SD-ID"),
        ({"sd_id": "a]@1"}, "is no SD-ID"),
        ({"sd_id": "a@x"}, "is no SD-ID"),
        ({"sd_id": "a@1\n"}, "is no SD-ID"),
        ({"sd_id": "a" * 31 + "@1"}, "is no SD-ID"),
        ({"app_name": ""}, "'' is no APP-NAME; use 1 to 48"),
        ({"app_name": "a b"}, "is no APP-NAME"),
        ({"app_name": "ä"}, "is no APP-NAME"),
        ({"app_name": "a" * 49}, "is no APP-NAME"),
    ],
)
def test_a_bad_name_is_rejected_in_one_line(names: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        SyslogFormat(**names)
    assert "\n" not in str(caught.value)


@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=8), st.sampled_from(["decnet@55555", "relay@55555"]))
def test_any_text_parses_back_to_its_escaped_form(host: str, values: list[str], sd_id: str) -> None:
    fields = [(f"f{number}", value) for number, value in enumerate(values)]
    line = SyslogFormat(sd_id=sd_id).line(event(*fields, host=host))
    assert len(line) <= LINE_BYTES
    assert line.decode("utf-8").isprintable()
    shown = Escape({"\\": "\\", "]": "\\x5d" if sd_id == "relay@55555" else "]"})
    assert parse(line)[1] == [(name, shown(value)) for name, value in fields]


@given(st.lists(st.text(st.characters(codec=None), min_size=500, max_size=3000), max_size=8))
def test_long_hostile_text_stays_within_all_bounds(values: list[str]) -> None:
    line = SyslogFormat().line(event(*((f"f{number}", v) for number, v in enumerate(values))))
    assert len(line) <= LINE_BYTES
    assert line.decode("utf-8").isprintable()
    for _, value in parse(line)[1]:
        assert len(value.encode()) <= VALUE_BYTES
