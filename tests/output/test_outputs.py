"""Settings of one output: as text, as a table, and the outputs made of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.event import Event
from deckwire.events.names import DECNET_EVENTS
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.options import FORMATS
from deckwire.output.formats import Headers
from deckwire.output.outputs import OutputSettings, make_outputs, read_outputs
from deckwire.output.sinks.fanout import Fanout
from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.twin import TwinSink
from tests.support.decnet_lines import check_pair, read_whole

HELLO = Event("tls_client_hello", 0, "web", (("src_ip", "192.0.2.1"), ("n", 1)))
SESSION = HELLO._replace(name="tls_session", severity=4)
LOSS = Event("capture_loss", 0, "host", (("count", 1),), 4)


def one(value: object, folder: str = "") -> OutputSettings:
    (output,) = read_outputs([value], folder)
    return output


def refused(value: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is the result
        read_outputs([value], "")
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("stdout", {"to": "stdout"}),
        ("stdout,format=json", {"to": "stdout", "format": "json"}),
        (
            "udp:[::1]:514,events=tls_*,tcp_handshake,min_severity=info",
            {"to": "udp:[::1]:514", "events": ["tls_*", "tcp_handshake"], "min_severity": "6"},
        ),
        (
            "unix:/dev/log,app_name=a,b,sd_id=x@1,procid=7",
            {"to": "unix:/dev/log", "app_name": "a,b", "sd_id": "x@1", "procid": "7"},
        ),
        (
            "file:/a,b.log,owner=0:0,mode=0600,twin=decnet-json",
            {"to": "file:/a,b.log", "owner": "0:0", "mode": "0600", "twin": "decnet-json"},
        ),
        ("stdout,min_severity=4", {"to": "stdout", "min_severity": 4}),
        ("file:/a,B=c", {"to": "file:/a,B=c"}),
        ("file:/a=b", {"to": "file:/a=b"}),
        ("stdout,events=decnet", {"to": "stdout", "events": list(DECNET_EVENTS)}),
        ("stdout,events=decnet", {"to": "stdout", "events": "decnet"}),
    ],
)
def test_a_text_and_a_table_mean_the_same(text: str, table: dict[str, object]) -> None:
    assert one(text) == one(table)
    assert one(text).to == table["to"]


def test_only_a_table_can_have_a_path_that_looks_like_a_setting() -> None:
    assert one({"to": "file:/a,mode=b"}).to == "file:/a,mode=b"


def test_a_relative_path_starts_at_the_folder() -> None:
    assert one("file:a.log,mode=0600", "/etc").to == "file:/etc/a.log"
    assert one({"to": "file:a.log"}, "/etc").to == "file:/etc/a.log"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("stdout,colour=red", "output 'stdout': 'colour' is no setting; use format, events, "),
        ("file:/a,b=c", "'b' is no setting; use format, "),
        ("stdout,format=xml", "output 'stdout': format: 'xml' is unknown; use syslog or json or"),
        ("stdout,format=", "format: '' is unknown"),
        ("stdout,events=", "events: '' matches no event"),
        ("stdout,events=tls_*,sni", "events: 'sni' matches no event"),
        ("stdout,min_severity=loud", "min_severity: 'loud' is no severity"),
        ("stdout,mode=0640", "mode is no setting of this output; only file:PATH has it"),
        ("udp:a:1,owner=root", "owner is no setting of this output"),
        ("unix:/a,twin=off", "twin is no setting of this output"),
        ("file:/a,twin=json", "twin: 'json' is unknown; use decnet-json or off"),
        ("file:/a.json,twin=decnet-json", "the log's own name ends in .json"),
        ("file:/a,twin=decnet-json,format=json", "twin: its log has the format syslog, not json"),
        ("file:/a,mode=rw", "mode: 'rw' is no mode"),
        ("file:/a,owner=no-such-user", "owner: this host has no user 'no-such-user'"),
        ("stdout,procid=a b", "procid: 'a b' is no PROCID"),
        ("stdout,sd_id=x", "sd_id: 'x' is no SD-ID"),
        ("stdout,app_name=", "app_name: '' is no APP-NAME"),
        ("stdout,mode=1,mode=2", "mode is given twice"),
        ("pigeon:x,format=json", "output 'pigeon:x': no such output"),
        ("unix:/" + "x" * 107 + ",format=json", "at most 107 bytes"),
        ({}, "a table of output has no key to"),
        ({"to": 3}, "to: 3 is no text"),
        ({"to": "stdout", "mode": 0o640}, "mode: 416 is no text"),
        ({"to": "stdout", "min_severity": 8}, "min_severity: '8' is no severity"),
        ({"to": "stdout", "min_severity": True}, "min_severity: True is no text"),
        ({"to": "stdout", "events": 3}, "events: 3 is no list"),
        ({"to": "stdout", "events": [3]}, "events: 3 is no text"),
        ({"to": "stdout", "events": []}, "events: the list is empty"),
        ({"to": "stdout", "fromat": "json"}, "'fromat' is no setting"),
        ({"to": "stdout", "a\nb": "json"}, r"'a\nb' is no setting"),
        (3, "3 is no output; use text, or a table with the key to"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(value: object, problem: str) -> None:
    assert problem in refused(value)


@pytest.mark.parametrize(
    "values",
    [
        ["stdout", "stdout,format=json"],
        ["file:/a,mode=0600", {"to": "file:/a"}],
        ["file:/a.log,twin=decnet-json", "file:/a.json,format=decnet-json"],
    ],
)
def test_two_outputs_to_one_place_are_refused(values: list[object]) -> None:
    with pytest.raises(ValueError, match="is given twice; give it once"):
        read_outputs(values, "")


@given(st.text("stdoufile:/ab,=_*.0-json\0é", max_size=60))
def test_any_text_is_an_output_or_one_line(text: str) -> None:
    message = ""
    try:
        read_outputs([text], "/x")
    except ValueError as error:
        message = str(error)
    assert message == "" or message.isprintable()


def test_settings_of_an_output_count_more_than_the_general_ones(tmp_path: Path) -> None:
    outputs = make_outputs(
        read_outputs(
            [
                f"file:{tmp_path}/a",
                f"file:{tmp_path}/b,format=syslog,app_name=x,procid=7",
                f"file:{tmp_path}/c,events=tls_session,capture_*",
                f"file:{tmp_path}/d,min_severity=warning,format=decnet-json",
                f"file:{tmp_path}/e.log,twin=decnet-json,events=decnet",
            ],
            "",
        ),
        "json",
        Headers(sd_id="relay@55555"),
    )
    fanout = Fanout(outputs)
    fanout.start()
    for event in (HELLO, SESSION, LOSS):
        assert fanout.offer(event)
    fanout.close(PATIENCE_SECONDS)
    lines = {path.name: read_whole(path.read_bytes()) for path in tmp_path.iterdir()}
    assert [json.loads(line)["event"] for line in lines["a"]] == [
        "tls_client_hello",
        "tls_session",
        "capture_loss",
    ]
    assert " web x 7 tls_session [relay@55555 " in lines["b"][1]
    assert [json.loads(line)["event"] for line in lines["c"]] == ["tls_session", "capture_loss"]
    assert [json.loads(line)["event_type"] for line in lines["d"]] == [
        "tls_session",
        "capture_loss",
    ]
    pairs = zip(lines["e.log"], lines["e.json"], strict=True)
    assert [check_pair(*pair)["event_type"] for pair in pairs] == [
        "tls_client_hello",
        "tls_session",
    ]
    # b's filter passes everything, a and c share their format.
    assert fanout.sums()["file_filtered"] == 1 + 1 + 1
    assert outputs[0].form is outputs[2].form
    assert [type(output.sink) for output in outputs] == [FileSink] * 4 + [TwinSink]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "decnet-json"])
@pytest.mark.parametrize("name", ["decnet.json", "decnet-2.json"])
def test_nothing_but_records_goes_into_a_file_of_decnet(
    tmp_path: Path, name: str, form: str
) -> None:
    path = tmp_path / name
    problem = rf"{name} is read by DECNET, which stops for ever at lines of the format {form}; use"
    for output, general in ((f"file:{path},format={form}", "decnet-json"), (f"file:{path}", form)):
        with pytest.raises(ValueError, match=problem):
            make_outputs(read_outputs([output], ""), general, Headers())
    with pytest.raises(ValueError, match=problem):
        make_outputs(read_outputs([{"to": f"file:{path}"}], ""), form, Headers())
    assert not path.exists()
    (allowed,) = make_outputs(
        read_outputs([f"file:{path},format=decnet-json"], ""), form, Headers()
    )
    allowed.sink.close(0)


def test_a_link_to_a_file_of_decnet_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "mine.json").symlink_to(tmp_path / "decnet.json")
    with pytest.raises(ValueError, match=r"decnet\.json is read by DECNET"):
        make_outputs(read_outputs([f"file:{tmp_path}/mine.json"], ""), "json", Headers())


def test_nothing_is_opened_if_one_output_is_refused(tmp_path: Path) -> None:
    outputs = read_outputs([f"file:{tmp_path}/good", f"file:{tmp_path}/decnet.json"], "")
    with pytest.raises(ValueError, match="read by DECNET"):
        make_outputs(outputs, "json", Headers())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("form", "status"), [("json", 2), ("syslog", 2), ("decnet-json", 0)])
def test_stdout_that_a_shell_sent_into_a_file_of_decnet(
    tmp_path: Path, form: str, status: int
) -> None:
    code = (
        "from deckwire.output.outputs import *; from deckwire.output.formats import Headers\n"
        "import sys\n"
        f"try: make_outputs(read_outputs(['stdout'], ''), {form!r}, Headers())\n"
        "except ValueError as error: sys.exit(2)"
    )
    with open(tmp_path / "decnet.json", "ab") as redirected:
        done = subprocess.run([sys.executable, "-c", code], stdout=redirected, check=False)
    assert done.returncode == status


def test_what_an_output_sets_itself_stays(tmp_path: Path) -> None:
    mine = one("file:/a.log,events=tls_*,mode=0600,procid=7")
    other = one("file:/b.log,events=decnet,mode=0640,twin=decnet-json,sd_id=x@1")
    both = mine.or_else(other)
    assert both == one("file:/a.log,mode=0600,twin=decnet-json,events=tls_*,procid=7,sd_id=x@1")
    assert both.has_twin
    with pytest.raises(ValueError, match="leave the format out, or set twin=off"):
        one("file:/a.log,format=json").or_else(other)
    assert not one("file:/a.log,format=json,twin=off").or_else(other).has_twin


def test_a_sink_that_is_open_is_used_again_and_a_failure_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    settings = one(f"file:{path}")
    (output,) = make_outputs([settings], "syslog", Headers())
    other = one(f"file:{path},format=json,events=tls_*")
    sinks = {settings.receiver: output.sink}
    (again,) = make_outputs([other], "syslog", Headers(), sinks=sinks)
    assert again.sink is output.sink
    changed = one(f"file:{path},mode=0600")
    assert changed.receiver != settings.receiver
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        make_outputs(
            [other, changed, one(f"file:{tmp_path}/no/such")], "syslog", Headers(), sinks=sinks
        )
    assert os.listdir("/proc/self/fd") == before
    fanout = Fanout([again])
    fanout.start()
    assert fanout.offer(HELLO)
    fanout.close(PATIENCE_SECONDS)
    assert len(path.read_text().splitlines()) == 1
