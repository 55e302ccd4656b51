"""How the user names an output."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.spec import from_folder, parse_output
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.output.sinks.tcp import TcpSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink


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
    ],
)
def test_a_wrong_output_is_rejected_in_one_line(spec: str, problem: str) -> None:
    with pytest.raises(ValueError, match="output") as caught:
        parse_output(spec)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


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
