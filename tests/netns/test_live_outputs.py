"""Outputs as an operator uses them: five at once, rotation of a file, two formats."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deckwire.events.event import STAMP
from deckwire.events.names import DECNET_EVENTS
from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import wait_until
from deckwire.lab.network import CLIENT_INTERFACE
from deckwire.lab.servers import http_server, openssl_server
from deckwire.output.fate import Fate
from tests.support.decnet_lines import check_pair, read_whole
from tests.support.rsyslog_server import RSYSLOGD, Rsyslog
from tests.support.watching import (
    EVERYTHING,
    TLS12,
    SyslogAgent,
    client_context,
    fetch,
    fetch_plain,
    lines_of,
)

pytestmark = pytest.mark.root

LINE = re.compile(
    r"<(?P<pri>\d+)>1 (?P<ts>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00) (?P<host>\S+)"
    r" sniffer - (?P<event>\S+) \[decnet@55555(?P<fields>.*)\]"
)
FIELD = re.compile(r' ([a-z0-9_]+)="((?:[^"\\\]]|\\.)*)"')
TIME_FIELD = re.compile(r".*(rtt|ja4l|duration|iat).*")


@pytest.fixture
def web(lab: Lab) -> Node:
    """A decky that serves TLS and a web page."""
    decky = lab.deckies[0]
    openssl_server(lab, decky, make_certificate(lab.directory, "www.example.test"))
    http_server(lab, decky)
    return decky


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for the name of a socket in it."""
    with tempfile.TemporaryDirectory(prefix="dw-") as made:
        yield Path(made)


Rsyslogs = Callable[[int], list[Rsyslog]]


@pytest.fixture
def rsyslogs(folder: Path) -> Iterator[Rsyslogs]:
    """A function that starts real rsyslogs, each with its own folder."""
    if RSYSLOGD is None:
        pytest.skip("rsyslogd is not installed; `make setup` installs it")
    with ExitStack() as running:

        def start(count: int) -> list[Rsyslog]:
            started = []
            for number in range(count):
                (folder / str(number)).mkdir()
                server = Rsyslog(folder / str(number))
                running.callback(server.stop)
                server.start()
                started.append(server)
            return started

        yield start


def count(path: Path, event: bytes) -> int:
    return path.read_bytes().count(b" - %b [" % event)


def test_five_outputs_in_one_run_get_the_same_lines(
    lab: Lab, web: Node, folder: Path, rsyslogs: Rsyslogs
) -> None:
    unix, udp, tcp = rsyslogs(3)
    agent = SyslogAgent(
        lab,
        folder,
        *EVERYTHING,
        *("--output", "stdout", "--output", f"file:{folder}/log"),
        *("--output", f"unix:{unix.folder}/datagram", "--output", f"udp:127.0.0.1:{udp.port}"),
        *("--output", f"tcp:127.0.0.1:{tcp.port}"),
    )
    for _ in range(10):
        fetch(lab.client, web.v4, context=client_context(TLS12))
        fetch(lab.client, web.v6)
    agent.stop()
    lines = lines_of(agent.printed)
    assert len(lines) == 10 * 6 + 10 * 5 + 1
    assert lines_of(folder / "log") == lines
    for receiver in (unix, udp, tcp):
        wait_until(lambda at=receiver: len(at.raw()) >= len(lines), "rsyslog has all lines")  # type: ignore[misc]
        assert receiver.raw() == lines
        assert len(receiver.parsed()) == len(lines)
    assert agent.messages.read_text().count("\n") == 1


def test_the_profile_of_decnet_gives_decnet_what_it_reads_and_the_rest_to_others(
    lab: Lab, web: Node, folder: Path
) -> None:
    """Root runs the agent, and another user owns the directory, also after a rotation."""
    log, twin, everything = folder / "decnet.log", folder / "decnet.json", folder / "all.json"
    os.chown(folder, 4242, 4343)
    agent = SyslogAgent(
        # The lab's deckies are not in DECNET's state.
        *(lab, folder, *EVERYTHING, "--profile", "decnet", "--no-decnet-state"),
        *("--output", f"file:{log}"),
        *("--output", f"file:{everything},format=json,events=t*,mode=0644"),
        *("--output", "stdout,events=capture_*,dedup_summary,app_name=deckwire"),
    )
    fetch(lab.client, web.v4, context=client_context(TLS12))
    wait_until(lambda: count(log, b"tcp_flow_timing") == 1, "the first connection is emitted")
    for path in (log, twin):
        path.rename(f"{path}.1")
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: log.exists() and twin.exists(), "both files are made again")
    fetch(lab.client, web.v6)
    agent.stop()
    of_tls = set(DECNET_EVENTS) - {"ssh_client_banner"}
    for suffix, sources, kinds in (
        (".1", lab.client.ipv4, of_tls),
        ("", lab.client.ipv6, of_tls - {"tls_certificate"}),
    ):
        paths = Path(f"{log}{suffix}"), Path(f"{twin}{suffix}")
        pairs = zip(*(read_whole(path.read_bytes()) for path in paths), strict=True)
        records = [check_pair(*pair) for pair in pairs]
        assert sorted(record["event_type"] for record in records) == sorted(kinds)
        (attacker,) = {record["attacker_ip"] for record in records}
        assert attacker in sources
        assert {record["decky"] for record in records} == {web.name}
        for path in paths:
            status = path.stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (4242, 4343, 0o640)
    assert everything.stat().st_mode & 0o777 == 0o644
    others = [json.loads(line) for line in lines_of(everything)]
    assert len(others) == 6 + 5
    assert {event["event"] for event in others} == {*of_tls, "tcp_handshake"}
    (stats,) = lines_of(agent.printed)
    sums = counters(stats)
    assert b" deckwire - capture_stats [relay@55555 " in stats
    assert (sums["events_emitted"], sums["events_filtered"], sums["events_dropped"]) == (11, 0, 0)
    assert sums["output_file_offered"] == 9 + 11
    assert sums["output_file_filtered"] == 2
    assert sums["output_stdout_filtered"] == 11


def test_the_kernel_suppresses_repeats_of_events_that_no_output_takes(
    lab: Lab, web: Node, folder: Path
) -> None:
    """They open suppression windows as emitted ones do."""
    agent = SyslogAgent(
        lab, folder, "--output", "stdout,events=capture_*", "--stats-interval", "0.5"
    )

    def sums() -> dict[str, int]:
        lines = agent.printed.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")] or [b""]
        return counters(whole[-1])

    def suppressed() -> bool:
        fetch_plain(lab.client, web.v4)
        found = sums()
        return all(found.get(name) for name in ("syn_suppressed", "handshakes_suppressed"))

    wait_until(suppressed, "the kernel suppresses samples")
    agent.stop()
    events = [LINE.fullmatch(line.decode()) for line in lines_of(agent.printed)]
    assert {event and event["event"] for event in events} == {"capture_stats"}
    found = sums()
    assert found["events_filtered"] >= 3
    assert found["events_dropped"] == 0
    assert found["events_made"] == sum(found[f"events_{fate.value}"] for fate in Fate)


def test_lines_have_the_contracts_header_and_severity(lab: Lab, web: Node, folder: Path) -> None:
    agent = SyslogAgent(lab, folder)
    fetch(lab.client, web.v4, context=client_context(TLS12))
    agent.stop()
    lines = [LINE.fullmatch(line.decode()) for line in lines_of(agent.printed)]
    assert None not in lines
    heads = {match["event"]: (match["pri"], match["host"]) for match in lines if match}
    machine = heads.pop("capture_stats")[1]
    assert machine != web.name
    assert heads.pop("scan_summary") == ("132", machine)
    assert heads == {
        "tcp_syn_fingerprint": ("134", web.name),
        "tcp_handshake": ("134", web.name),
        "tls_client_hello": ("134", web.name),
        "tls_session": ("132", web.name),
        "tls_certificate": ("134", web.name),
        "tcp_flow_timing": ("134", web.name),
    }


def test_a_rotated_file_is_created_again(lab: Lab, web: Node, folder: Path) -> None:
    """The file is renamed, as logrotate does, once with SIGHUP after it and once without."""
    log, first, second = folder / "log", folder / "log.1", folder / "log.2"
    agent = SyslogAgent(lab, folder, *EVERYTHING, "--output", f"file:{log}", "--output", "stdout")
    fetch_plain(lab.client, web.v4)
    wait_until(lambda: count(log, b"tcp_flow_timing") == 1, "the first connection is emitted")
    log.rename(first)
    agent.process.send_signal(signal.SIGHUP)
    wait_until(log.exists, "the file is created again")
    fetch_plain(lab.client, web.v4)
    wait_until(
        lambda: count(log, b"tcp_flow_timing") == 1, "the second connection is in the new file"
    )
    log.rename(second)

    def goes_on() -> bool:
        fetch_plain(lab.client, web.v4)
        return log.exists()

    wait_until(goes_on, "the file is created again without SIGHUP")
    agent.stop()
    assert count(first, b"tcp_flow_timing") == 1
    assert lines_of(first) + lines_of(second) + lines_of(log) == lines_of(agent.printed)


def test_json_has_the_fields_of_syslog(lab: Lab, web: Node, folder: Path) -> None:
    """Agents at both ends of a veth write one format each. All fields except times are equal."""
    syslog = SyslogAgent(lab, folder, *EVERYTHING)
    json_agent = AgentProcess(lab, CLIENT_INTERFACE, ["--netns", lab.client.netns, *EVERYTHING])
    fetch(lab.client, web.v4, context=client_context(TLS12))
    fetch(lab.client, web.v6)
    json_agent.stop()
    syslog.stop()
    parsed = [LINE.fullmatch(line.decode()) for line in lines_of(syslog.printed)]
    lines = [match for match in parsed if match and match["event"] != "capture_stats"]
    events = [event for event in json_agent.events if event["event"] != "capture_stats"]
    assert len(lines) == len(events) == 11
    # The end of a connection and the start of the next may come in either order at each end.
    lines.sort(key=lambda line: dict(FIELD.findall(line["fields"]))["conn_id"])
    events.sort(key=lambda event: event["fields"]["conn_id"])
    for line, event in zip(lines, events, strict=True):
        assert (line["host"], line["event"]) == (event["host"], event["event"])
        assert int(line["pri"]) == 16 * 8 + event["severity"]
        fields = FIELD.findall(line["fields"])
        assert "".join(f' {name}="{value}"' for name, value in fields) == line["fields"]
        assert [name for name, _ in fields] == list(event["fields"])
        for name, value in fields:
            if name == "event_id":
                # The two ends of the wire saw each packet at another time.
                assert value != event["fields"][name]
            elif not TIME_FIELD.fullmatch(name):
                assert value == as_text(event["fields"][name]), name


def counters(line: bytes) -> dict[str, int]:
    """The counters in a syslog line of capture_stats."""
    fields = dict(FIELD.findall(line.decode()))
    return {name: int(value) for name, value in fields.items() if name not in STAMP}


def as_text(value: object) -> str:
    """A JSON value as syslog writes it."""
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value)
