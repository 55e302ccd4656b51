"""The command line: a mistake of the user costs one clear line and status 2, no traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from deckwire import __version__
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.options import OPTIONS, Section
from deckwire.output.sinks.spec import parse_output
from tests.support.conversation import DECKY, Conversation, pcap
from tests.support.flights import handshake

FLIGHT = handshake(ssl.TLSVersion.TLSv1_2)
WATCH = ("--decky", f"{DECKY}=web-1")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads programs")


def deckwire(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deckwire", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def refused(*arguments: str | Path) -> str:
    """The one line on stderr of a command that cannot be done."""
    done = deckwire(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("deckwire: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three connections."""
    path = tmp_path_factory.mktemp("cli") / "talk.pcap"
    frames = []
    for number in range(3):
        talk = Conversation(client_port=40_000 + number).open()
        frames += talk.send(FLIGHT.client).answer(FLIGHT.server).close().frames
    path.write_bytes(pcap(frames))
    return path


# --- help ---


@pytest.mark.parametrize(
    "command", ["", "run", "replay", "demo", "doctor", "discover", "check-config", "status"]
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_text_of_bounded_width(command: str, option: str) -> None:
    done = deckwire(*command.split(), option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")
    assert option in done.stdout
    assert all(len(line) < 100 for line in done.stdout.splitlines())


def test_the_help_of_run_names_every_option_and_every_kind_of_output() -> None:
    page = deckwire("run", "--help").stdout
    for option in OPTIONS:
        assert (option.flag in page) != option.file_only, option.key
    assert all(section in page for section in Section)
    forms = re.sub(r"\s+", " ", page)
    for scheme in ("stdout", "file:PATH", "unix:PATH", "udp:HOST:PORT", "tcp:HOST:PORT"):
        assert scheme in forms
        parse_output(scheme.replace("PORT", "514"))


def test_the_help_of_replay_has_no_option_of_live_capture() -> None:
    page = deckwire("replay", "--help").stdout
    for option in OPTIONS:
        assert (option.flag in page.split()) != (option.live_only or option.file_only), option.key


def test_no_command_shows_the_help() -> None:
    done = deckwire()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == deckwire("--help").stdout


def test_the_version_is_printed() -> None:
    done = deckwire("--version")
    kernel = re.escape(os.uname().release)
    bcc = r"BCC \d+\.\d+\.\d+" if find_spec("bcc") else "no BCC: install python3-bpfcc"
    form = r"compiled modules|pure modules \(none are compiled for this Python\)"
    words = rf"deckwire {re.escape(__version__)}, Linux {kernel}, {bcc}, ({form})\n"
    assert re.fullmatch(words, done.stdout)
    assert (done.returncode, done.stderr) == (0, "")


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["fly"], "No such command 'fly'; see python -m deckwire --help"),
        (["run", "--fly"], "--fly"),
        (["run"], "-i"),
        (["run", "more"], "(more); see python -m deckwire run --help"),
        (
            ["run", "-i", "lo", *WATCH, "--ring-kb", "big"],
            "no whole number; use a whole number from 128",
        ),
        (["check-config", "/"], "/: Is a directory"),
        (["status", "--runtime-dir", __file__], "Not a directory; name"),
        (["run", "-i", "lo"], "--decky"),
        (["run", "-i", "a/b", *WATCH], "'a/b'"),
        (["run", "-i", "", *WATCH], "''"),
        (["run", "-i", "lo", "--decky", "nonsense"], "'nonsense'"),
        (["run", "-i", "lo", "--decky", "224.0.0.1"], "224.0.0.1"),
        (["run", "-i", "lo", "--decky", f"{DECKY}=a b"], "'a b'"),
        (["run", "-i", "lo", "--decky", f"{DECKY}=a", "--decky", f"{DECKY}=b"], "both a and b"),
        (["run", "-i", "lo", *WATCH, "--output", "carrier:pigeon"], "'carrier:pigeon'"),
        (["run", "-i", "lo", *WATCH, "--output", "udp:host:99999"], "99999"),
        (["run", "-i", "lo", *WATCH, "--output", "stdout,colour=red"], "'colour' is no setting"),
        (["run", "-i", "lo", *WATCH, "--output", "stdout,events=tls_sesion"], "'tls_sesion'"),
        (["run", "-i", "lo", *WATCH, "--output", "file:x,owner=no-such-user"], "'no-such-user'"),
        (["run", "-i", "lo", *WATCH, "--output", "file:x,mode=9"], "'9' is no mode"),
        (["run", "-i", "lo", *WATCH, "--profile", "zeek"], "'zeek' is unknown; use decnet"),
        (["run", "-i", "lo", *WATCH, "--procid", "a b"], "'a b' is no PROCID"),
        (["run", "-i", "lo", *WATCH, "--netns", "../x"], "'../x'"),
        (["run", "-i", "lo", *WATCH, "--stats-interval", "nan"], "--stats-interval"),
        (["run", "-c", "no-such.toml"], "no-such.toml"),
        (["run", "-i", "lo", "--deckies", "no-such.deckies"], "no-such.deckies"),
        (["replay"], "FILE"),
        (["replay", "x.pcap"], "--decky"),
        (["replay", *WATCH, "no-such.pcap"], "no-such.pcap"),
        (["replay", *WATCH, "two\nlines"], r"two\nlines"),
        (["replay", *WATCH, "/"], "directory"),
        (["replay", *WATCH, "--format", "xml", "x.pcap"], "'xml'"),
        (["replay", *WATCH, "--sd-id", "a b@1", "x.pcap"], "'a b@1'"),
        (["replay", *WATCH, "--app-name", "", "x.pcap"], "''"),
        (["replay", *WATCH, "--compat", "zeek", "x.pcap"], "'zeek'"),
        (["replay", *WATCH, "--dedup-ttl", "-1", "x.pcap"], "-1"),
        (["replay", *WATCH, "--dedup-ttl", "soon", "x.pcap"], "'soon' is no number; use seconds"),
        (["replay", *WATCH, "--p0f-db", "no-such.fp", __file__], "no-such.fp"),
        (["replay", "--decky"], "--decky"),
        (["doctor", "--fly"], "--fly"),
    ],
)
def test_one_line_says_what_is_wrong(arguments: list[str], problem: str) -> None:
    assert problem in refused(*arguments)


def test_a_fault_in_the_configuration_file_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "deckwire.toml"
    path.write_text('interface = "lo"\ndecky = "nonsense"\n')
    line = refused("run", "-c", path)
    assert str(path) in line
    assert "'nonsense'" in line
    path.write_text("interface = \n")
    assert "line 1" in refused("run", "-c", path)


def test_a_fault_in_the_deckies_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "deckies"
    path.write_text("198.51.100.7 web-1\nnonsense\n")
    assert f"{path}:2" in refused("replay", "--deckies", path, __file__)


def test_a_fault_in_the_signature_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.fp"
    path.write_text("; mine\nnonsense\n")
    assert f"{path}:2" in refused("replay", *WATCH, "--p0f-db", path, __file__)


@needs_root
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-i", "nosuch0"], "nosuch0"),
        (["-i", "lo", "--netns", "nosuch"], "nosuch"),
        (
            ["-i", "lo", "--output", "file:/no/such/folder/x"],
            "output 'file:/no/such/folder/x': /no/such/folder/x: No such file",
        ),
        (["-i", "lo", "--output", "tls:host:1,ca=/no/such"], "output 'tls:host:1': /no/such: "),
        (
            ["-i", "lo", "--format", "json", "--output", "file:/no/such/folder/decnet.json"],
            "decnet.json is read by DECNET",
        ),
        (
            ["-i", "lo", "--output", "file:/no/such/folder/decnet-2.json,format=json"],
            "decnet-2.json is read by DECNET",
        ),
        (["-i", "lo", "--profile", "decnet"], "/var/log/decnet/decnet.log: "),
    ],
)
def test_what_the_host_lacks_is_one_line_too(arguments: list[str], problem: str) -> None:
    assert problem in refused("run", *arguments, *WATCH)


@needs_root
def test_a_table_of_the_file_may_not_write_json_into_a_file_of_decnet(tmp_path: Path) -> None:
    path = tmp_path / "deckwire.toml"
    path.write_text('[[output]]\nto = "file:decnet.json"\nformat = "json"\n')
    line = refused("run", "-c", path, "-i", "lo", *WATCH)
    assert "decnet.json is read by DECNET" in line
    assert not (tmp_path / "decnet.json").exists()


@needs_root
def test_a_shell_may_not_send_json_into_a_file_of_decnet(tmp_path: Path, capture: Path) -> None:
    path = tmp_path / "decnet.json"
    with open(path, "wb") as redirected:
        done = subprocess.run(
            [sys.executable, "-m", "deckwire", "replay", *WATCH, "--format", "json", str(capture)],
            stdout=redirected,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("deckwire: output 'stdout': decnet.json is read by DECNET")
    assert done.stderr.count("\n") == 1
    assert path.read_bytes() == b""


# --- replay ---


def events(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [json.loads(line)["event"] for line in done.stdout.splitlines()]


@needs_root
@pytest.mark.root
def test_replay_emits_events_and_their_sums(capture: Path) -> None:
    done = deckwire("replay", *WATCH, "--dedup-ttl", "0", "--format", "json", capture)
    assert (done.returncode, done.stderr) == (0, "")
    emitted = events(done)
    assert len(emitted) == 3 * 6 + 2
    assert emitted[-2:] == ["scan_summary", "capture_stats"]
    stats = json.loads(done.stdout.splitlines()[-1])["fields"]
    assert (stats["frames_run"], stats["events_emitted"]) == (24, 19)
    assert stats["samples_lost"] == 0


@needs_root
@pytest.mark.root
def test_replay_twice_gives_the_same_lines(capture: Path) -> None:
    first, again = (deckwire("replay", *WATCH, capture).stdout for _ in range(2))
    assert first == again
    assert "<132>1 2026-09-21T14:13:20.004000+00:00 web-1 sniffer - tls_session " in first


@needs_root
@pytest.mark.root
def test_options_change_the_lines(capture: Path) -> None:
    done = deckwire(
        *("replay", *WATCH, "--sd-id", "relay@55555", "--app-name", "probe"),
        *("--raw-fingerprints", "--compat", "decnet", capture),
    )
    hello = next(line for line in done.stdout.splitlines() if "tls_client_hello" in line)
    assert " probe - tls_client_hello [relay@55555 " in hello
    assert " ja4_r=" in hello


@needs_root
@pytest.mark.root
def test_a_truncated_capture_is_replayed_up_to_its_end(capture: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-10])
    done = deckwire("replay", *WATCH, "--dedup-ttl", "0", "--format", "json", cut)
    assert done.returncode == 2
    assert done.stderr.startswith(f"deckwire: {cut}: at byte ")
    assert done.stderr.count("\n") == 1
    assert events(done).count("tls_client_hello") == 3
    assert events(done)[-1] == "capture_stats"


@needs_root
@pytest.mark.root
def test_the_capture_after_a_bad_one_is_replayed(capture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pcap"
    bad.write_text("no capture")
    done = deckwire("replay", *WATCH, "--format", "json", bad, capture)
    assert done.returncode == 2
    assert done.stderr == f"deckwire: {bad}: at byte 0: neither pcap nor pcapng\n"
    assert "tls_client_hello" in events(done)


@needs_root
@pytest.mark.root
def test_a_reader_that_closes_stdout_early_ends_the_replay(capture: Path) -> None:
    """As `head -1` does."""
    with subprocess.Popen(
        [sys.executable, "-m", "deckwire", "replay", *WATCH, *[str(capture)] * 50],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_SECONDS) == 1


@needs_root
@pytest.mark.root
def test_lines_lost_to_a_full_disk_are_reported(capture: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as device:
        done = subprocess.run(
            [sys.executable, "-m", "deckwire", "replay", *WATCH, str(capture)],
            stdout=device,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 1
    full, lost = done.stderr.splitlines()
    assert full.startswith(
        "deckwire: output stdout: No space left on device; free space on the disk"
    )
    assert lost.startswith("deckwire: lost at the outputs: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["-h"], ["--version"], [], ["run", "-h"], ["doctor"]])
def test_a_full_disk_ends_a_command_with_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as device:
        done = subprocess.run(
            [sys.executable, "-m", "deckwire", *arguments],
            stdout=device,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    line = "deckwire: stdout: No space left on device; make room and try again\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize(("redirections", "status"), [(">&-", 0), ("2>/dev/full --nonsense", 2)])
def test_a_closed_or_full_stream_leaves_the_status(redirections: str, status: int) -> None:
    command = f"{shlex.quote(sys.executable)} -m deckwire --version {redirections}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
