"""How the user names an output."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.http import HttpSink
from deckwire.output.sinks.spec import from_folder, parse_output
from deckwire.output.sinks.spooled import SpooledSink
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.output.sinks.tcp import TcpSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink
from tests.support.rsyslog_server import wait_until


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("stdout", StdoutSink, "stdout"),
        ("unix:/dev/log", UnixSink, "unix:/dev/log"),
        ("udp:logs.example.com:514", UdpSink, "udp:logs.example.com:514"),
        ("udp:[::1]:514", UdpSink, "udp:[::1]:514"),
        ("tcp:[fe80::1%eth0]:65535", TcpSink, "tcp:[fe80::1%eth0]:65535"),
        ("tcp:192.0.2.1:1", TcpSink, "tcp:192.0.2.1:1"),
    ],
)
def test_each_kind_of_output_can_be_named(spec: str, kind: type, name: str) -> None:
    sink = parse_output(spec)()
    assert type(sink) is kind
    assert sink.name == name


def test_a_file_is_made_when_opened_not_when_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a:b.log"
    opener = parse_output(f"file:{path}")
    assert not path.exists()
    sink = opener()
    assert isinstance(sink, FileSink)
    assert path.exists()
    sink.close(0)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            "",
            "output '': no such output; use stdout, file:PATH, unix:PATH, udp:HOST:PORT, tcp:",
        ),
        ("syslog", "no such output; use stdout"),
        ("stdout:x", "nothing may follow stdout"),
        ("file:", "the path is missing"),
        ("file:a\0b", "the path holds a NUL"),
        ("unix:", "the path is missing"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("udp:host", "the port is missing; write HOST:PORT"),
        ("udp:host:", "'' is no port; use a number from 1 to 65535"),
        ("udp:host:0", "'0' is no port"),
        ("udp:host:65536", "'65536' is no port"),
        ("tcp:host:٣", "is no port"),
        ("tcp::514", "'' is no host name or address"),
        ("tcp:a b:514", "'a b' is no host name"),
        ("tcp:a..b:514", "'a..b' is no host name"),
        (f"tcp:{'a' * 64}:514", "is no host name"),
        ("tcp:::1:514", "write an IPv6 address as in [::1]:514"),
        ("tcp:[host]:514", "'[host]' is no IPv6 address"),
        ("tls:host", "the port is missing"),
        ("relp:host:0", "'0' is no port"),
        ("http:host/path", "is no address; write http://HOST[:PORT]/PATH"),
        ("https://host:port/", "is no address; write https://HOST[:PORT]/PATH"),
        ("https://host:0/", "'0' is no port"),
        ("https://user:secret@host/", "no user, fragment or space"),
        ("https://host/a#b", "no user, fragment or space"),
        ("https:///path", "'' is no host name"),
        ("https://[::1/", "is no address"),
        ("https://host/\r\nX: y", "is no address"),
    ],
)
def test_a_wrong_output_is_rejected_in_one_line(spec: str, problem: str) -> None:
    with pytest.raises(ValueError, match="output") as caught:
        parse_output(spec)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "own", "problem"),
    [
        ("tls:host:6514", {"key": "k.pem"}, "key: only with certificate"),
        ("relp:host:2514", {"ca": "ca.pem"}, "ca: only with tls=on"),
        ("relp:host:2514", {"tls": "yes"}, "tls: 'yes' is neither; use on or off"),
        ("relp:host:2514", {"spool_bytes": "1000"}, "use a number from 1048576"),
        ("relp:host:2514", {"spool_bytes": "many"}, "use a number from 1048576"),
        ("http://host/", {"ca": "ca.pem"}, "ca is no setting of this output"),
        ("tcp:host:514", {"ca": "ca.pem"}, "ca is no setting of this output"),
        ("udp:host:514", {"spool_bytes": "10000000"}, "spool_bytes is no setting of this output"),
    ],
)
def test_a_wrong_setting_is_rejected_in_one_line(
    spec: str, own: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError, match="output") as caught:
        parse_output(spec, own)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("relp:logs.example:2514", "relp:logs.example:2514"),
        ("http://logs.example/events?a=b", "http://logs.example:80/events?a=b"),
        ("https://[::1]:8443", "https://[::1]:8443/"),
    ],
)
def test_an_acknowledged_output_keeps_a_spool(spec: str, name: str, tmp_path: Path) -> None:
    opener = parse_output(spec)
    with pytest.raises(ValueError, match="set state_dir"):
        opener()
    sink = opener(str(tmp_path))
    assert sink.name == name
    assert isinstance(sink, SpooledSink)
    sink.start()
    wait_until(lambda: list((tmp_path / "spool").glob("*.sqlite")), "the spool is there")
    sink.close(5)


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    opener = parse_output("https://logs.example/", {"token_file": str(token)})
    with pytest.raises(OSError, match="token"):
        opener(str(tmp_path))
    for bad in (b"", b"two\nlines", b"\xff"):
        token.write_bytes(bad)
        with pytest.raises(ValueError, match="holds no token"):
            opener(str(tmp_path))
    token.write_bytes(b"secret\n")
    sink = opener(str(tmp_path))
    assert isinstance(sink, HttpSink)
    assert sink._credentials() == {"Authorization": "Bearer secret"}
    assert "secret" not in sink.name


def test_nothing_heavy_is_imported_before_an_output_needs_it() -> None:
    program = (
        "import sys; from deckwire.output.sinks.spec import parse_output\n"
        "for spec in ('tls:h:1', 'relp:h:1', 'https://h/'): parse_output(spec)\n"
        "print({'ssl', 'http.client', 'sqlite3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


@given(st.text("ab1-_.:%[]\0é", max_size=70))
@example("a" * 63 + ".example")
@example("a" * 64 + ".example")
@example("a..b")
@example("[.]")
def test_no_accepted_host_breaks_the_resolver(host: str) -> None:
    """Its UnicodeError for names that it cannot encode is no OSError and would end the thread."""
    try:
        sink = parse_output(f"udp:{host}:514")()
    except ValueError:
        return
    assert isinstance(sink, UdpSink)
    with suppress(socket.gaierror):
        socket.getaddrinfo(*sink._address, flags=socket.AI_NUMERICHOST)


@pytest.mark.parametrize(
    ("spec", "whole"),
    [
        ("file:log", "file:/etc/deckwire/log"),
        ("unix:run/s", "unix:/etc/deckwire/run/s"),
        ("file:/var/log", "file:/var/log"),
        ("udp:file:514", "udp:file:514"),
        ("stdout", "stdout"),
    ],
)
def test_a_relative_path_starts_at_the_folder(spec: str, whole: str) -> None:
    assert from_folder(spec, "/etc/deckwire") == whole
