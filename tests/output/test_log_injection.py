"""Hostile names of a peer through the whole agent, each format and each output."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from deckwire.connections.payload import Sent
from deckwire.events.choices import Choices
from deckwire.events.context import locate
from deckwire.events.decky_mismatch import Finding, Mismatch, mismatch_event
from deckwire.events.decky_mismatch import headline as mismatch_headline
from deckwire.events.event import Event
from deckwire.events.identity import Identity
from deckwire.events.tcp_payload import describe, headline, payload_event
from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.decnet_json import DecnetJsonFormat
from deckwire.output.ecs import EcsFormat
from deckwire.output.json_lines import JsonFormat
from deckwire.output.sinks.fanout import Fanout, Format, to_all
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.spec import parse_output
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.output.syslog import RELAY_SD_ID, SyslogFormat
from deckwire.tcp.flow import Ends
from tests.fuzz.lines import check_harmless, read_json, read_syslog
from tests.fuzz.material import segment_record
from tests.fuzz.recorder import Recorder
from tests.support.ecs import check_ecs, flat
from tests.support.event_samples import CLIENT, DECKY, REGISTRY, TIME_NS, packed
from tests.support.flights import client_hello, message, record, server_hello, u16, vector
from tests.support.http_wire import answer, request

CONTROLS = [chr(code).encode() for code in (*range(0x20), *range(0x7F, 0xA0))]
BIDI = [chr(code).encode() for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F))]
BIDI += [chr(code).encode() for code in range(0x2066, 0x206A)]
INVISIBLE = [chr(code).encode() for code in (0xAD, *range(0x200B, 0x200E), 0x2028, 0x2029)]
INVISIBLE += [chr(code).encode() for code in (0x2060, 0xFEFF, 0xFFFE, 0xE0041, 0xE000, 0xA0)]
NOT_UTF8 = [bytes([byte]) for byte in range(0x80, 0x100)]
NOT_UTF8 += [b"\xc0\x8a", b"\xe0\x80\x8a", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80"]
FORGERIES = [
    b'"] - - forged',
    b'\n<134>1 2026-01-01T00:00:00.000000+00:00 h a - forged [x@1 a="b"]',
    b"\\",
    b'\\"',
    b'"}}\r\n{"event": "forged"}',
    b"\x1b]0;title\x07\x1b[2J",
    b"%s%n{0}${jndi:ldap://x}",
]
HOSTILE = [*CONTROLS, *BIDI, *INVISIBLE, *NOT_UTF8, *FORGERIES]

FORMATS: dict[str, Callable[[], Format]] = {
    "syslog": SyslogFormat,
    "relay": lambda: SyslogFormat(sd_id=RELAY_SD_ID),
    "json": JsonFormat,
}


def escaped(part: bytes) -> str:
    """What docs/outputs.md promises for these bytes, written again by its text."""
    found = ""
    for character in part.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if character.isprintable():
            found += character
        elif 0xDC80 <= code <= 0xDCFF:
            found += f"\\x{code - 0xDC00:02x}"
        elif code < 0x100:
            found += f"\\x{code:02x}"
        else:
            found += "".join(f"\\x{byte:02x}" for byte in character.encode())
    return found


def tlv(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    size = bytes([len(body)]) if len(body) < 0x80 else b"\x82" + u16(len(body))
    return bytes([tag]) + size + body


def certificate(text: bytes) -> bytes:
    """An X.509 certificate with `text` in every place that an event shows."""
    attributes = [
        tlv(0x31, tlv(0x30, tlv(6, b"\x55\x04" + kind), tlv(0x0C, text))) for kind in (b"\3", b"\n")
    ]
    name = tlv(0x30, *attributes)
    algorithm = tlv(0x30, tlv(6, bytes.fromhex("2a8648ce3d040302")))
    validity = tlv(0x30, tlv(0x17, text), tlv(0x18, text))
    names = [tlv(0x82, text), tlv(0x81, text), tlv(0x86, text), tlv(0xA4, name)]
    sans = tlv(0x30, tlv(6, b"\x55\x1d\x11"), tlv(4, tlv(0x30, *names)))
    body = tlv(
        0x30,
        tlv(0xA0, tlv(2, b"\2")),
        tlv(2, b"\1"),
        algorithm,
        name,
        validity,
        name,
        tlv(0x30, algorithm, tlv(3, b"\0\4")),
        tlv(0xA3, tlv(0x30, sans)),
    )
    return tlv(0x30, body, algorithm, tlv(3, b"\0"))


def first_bytes(text: bytes) -> Event:
    """A tcp_payload with `text` in fields, lists and the bytes of both ends."""
    client = mqtt_connect(text)
    payload = describe(Sent(client), Sent(text))
    found = locate(REGISTRY, Ends(packed(CLIENT), 40_000, packed(DECKY), 443))
    assert found is not None
    event = payload_event(headline(found, TIME_NS, payload), found, payload)
    return Identity("sensor").stamped(event)


def mqtt_connect(text: bytes) -> bytes:
    """CONNECT with `text` as its three names."""
    sized = u16(len(text)) + text
    body = b"\0\4MQTT\4\xc2\0\x3c" + 3 * sized
    return b"\x10" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def events(hostile: bytes) -> dict[str, Event]:
    """The events of a handshake with `hostile` in all its names, by name."""
    text = b"a" + hostile + b"z"
    alpn = (16, vector(2, vector(1, text)))
    hello = client_hello((0, vector(2, b"\0" + vector(2, text))), alpn)
    flight = message(2, server_hello(alpn))
    flight += message(11, vector(3, vector(3, certificate(text))))
    recorder = Recorder(choices=Choices(raw_fingerprints=True, decnet=True))
    # A newline would end the header.
    line = text.replace(b"\n", b"")
    headers = [(name, line) for name in (b"Host", b"User-Agent", b"Referer", line)]
    asked = request(b"/" + line, method=line.replace(b" ", b"")[:20], headers=headers)
    for sender, data in ((0, asked), (1, answer(server=line))):
        recorder.take(
            segment_record(data, sender=sender, seq=70, time_ns=8, start_seq=70, head="http")
        )
    for sender, content in ((0, message(1, hello)), (1, flight)):
        data = record(content)
        recorder.take(segment_record(data, sender=sender, seq=77, time_ns=9, start_seq=77))
    recorder.pipeline.finish()
    payload = first_bytes(text)
    return {payload.name: payload} | {event.name: event for event in recorder.events}


SHOWN_IN = {
    "tls_client_hello": ("sni", "alpn"),
    "tls_session": ("sni", "alpn", "alpn_selected"),
    "tls_certificate": ("subject_cn", "not_before", "not_after", "sni"),
    "http_request": ("host", "user_agent", "referer", "server"),
    "tcp_payload": ("login_user", "login_password", "mqtt_client_id", "server_payload_text"),
}
"""Fields whose values are a peer's text and nothing else."""


@pytest.mark.parametrize("form_name", FORMATS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda part: part.hex())
def test_hostile_names_are_escaped(hostile: bytes, form_name: str) -> None:
    form = FORMATS[form_name]()
    found = events(hostile)
    assert found.keys() >= SHOWN_IN.keys()
    wanted = "a" + escaped(hostile) + "z"
    if form_name == "relay":
        wanted = wanted.replace("]", "\\x5d")
    for event in found.values():
        line = form.line(event)
        check_harmless(line)
        if form_name == "json":
            fields = read_json(line)["fields"]
        else:
            fields = dict(read_syslog(line).params)
        assert [name for name, _ in (*event.fields, *event.stamp)] == list(fields)
        for name in SHOWN_IN.get(event.name, ()):
            value = fields[name]
            if event.name == "http_request" and b"\n" in hostile:
                continue
            assert (value[0] if isinstance(value, list) else value) == wanted, name
        for name in ("sans", "issuer", "subject", "ja4"):
            if form_name == "json" and name in fields:
                assert "".join(fields[name]).isprintable()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda part: part.hex())
def test_hostile_names_are_escaped_in_ecs(hostile: bytes) -> None:
    found = events(hostile)
    check_ecs(list(found.values()))
    wanted = "a" + escaped(hostile) + "z"
    hello = dict(flat(json.loads(EcsFormat().line(found["tls_client_hello"]))))
    assert hello["tls.client.server_name"] == hello["destination.domain"] == wanted
    assert hello["deckwire.alpn"] == [wanted]
    for event in found.values():
        check_harmless(EcsFormat().line(event))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda part: part.hex())
def test_hostile_names_are_escaped_in_records_for_decnet(hostile: bytes) -> None:
    syslog = SyslogFormat(sd_id=RELAY_SD_ID)
    for event in events(hostile).values():
        line, record = syslog.line(event), DecnetJsonFormat(syslog).line(event).decode()
        assert record.isprintable()
        found = json.loads(record)
        assert found["raw_line"] == line.decode()
        assert found["fields"] == dict(read_syslog(line).params)


@pytest.mark.parametrize("form_name", FORMATS)
@pytest.mark.parametrize("hostile", [part.decode() for part in FORGERIES])
def test_what_a_registry_says_of_a_decky_is_escaped(hostile: str, form_name: str) -> None:
    """Text of a deckies file, which another program may have written."""
    finding = Finding(Mismatch.SYSTEM, f"x {hostile}", hostile, others=(hostile, "web"))
    event = mismatch_event(mismatch_headline("d", "192.0.2.2", 5, finding), finding)
    line = FORMATS[form_name]().line(event)
    check_harmless(line)
    fields = read_json(line)["fields"] if form_name == "json" else dict(read_syslog(line).params)
    assert list(fields) == [name for name, _ in event.fields]


class Receiver(NamedTuple):
    """The other end of an output."""

    sink: Sink
    received: Callable[[], list[bytes]]
    """All lines, once the output has been closed."""


def _stdout(folder: Path) -> Receiver:
    reading, writing = os.pipe()
    return _reader(StdoutSink(writing), reading, lambda: os.close(writing))


def _file(folder: Path) -> Receiver:
    path = folder / "events.log"
    return Receiver(parse_output(f"file:{path}")(), lambda: _lines(path.read_bytes()))


def _unix_stream(folder: Path) -> Receiver:
    path = str(folder / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return _accepting(parse_output(f"unix:{path}")(), listener, _lines)


def _tcp(folder: Path) -> Receiver:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    return _accepting(parse_output(f"tcp:127.0.0.1:{port}")(), listener, _octet_counted)


def _unix_datagrams(folder: Path) -> Receiver:
    path = str(folder / "d")
    receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiving.bind(path)
    return _datagrams(parse_output(f"unix:{path}")(), receiving)


def _udp(folder: Path) -> Receiver:
    receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    receiving.bind(("127.0.0.1", 0))
    return _datagrams(parse_output(f"udp:127.0.0.1:{receiving.getsockname()[1]}")(), receiving)


OUTPUTS = {
    "stdout": _stdout,
    "file": _file,
    "unix datagrams": _unix_datagrams,
    "unix stream": _unix_stream,
    "udp": _udp,
    "tcp": _tcp,
}


def _lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\n")
    return data.split(b"\n")[:-1]


def _octet_counted(data: bytes) -> list[bytes]:
    frames = []
    while data:
        size, _, data = data.partition(b" ")
        frames.append(data[: int(size)])
        data = data[int(size) :]
    return frames


def _reader(sink: Sink, reading: int, end: Callable[[], None]) -> Receiver:
    kept: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            kept.append(chunk)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def received() -> list[bytes]:
        end()
        thread.join(PATIENCE_SECONDS)
        os.close(reading)
        return _lines(b"".join(kept))

    return Receiver(sink, received)


def _accepting(
    sink: Sink, listener: socket.socket, unframe: Callable[[bytes], list[bytes]]
) -> Receiver:
    kept: list[bytes] = []

    def read() -> None:
        with listener, listener.accept()[0] as connection:
            while chunk := connection.recv(1 << 16):
                kept.append(chunk)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def received() -> list[bytes]:
        thread.join(PATIENCE_SECONDS)
        return unframe(b"".join(kept))

    return Receiver(sink, received)


def _datagrams(sink: Sink, receiving: socket.socket) -> Receiver:
    kept: list[bytes] = []
    receiving.settimeout(PATIENCE_SECONDS)

    def read() -> None:
        with receiving, contextlib.suppress(TimeoutError):
            while (datagram := receiving.recv(1 << 16)) != b"end":
                kept.append(datagram)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def received() -> list[bytes]:
        with socket.socket(receiving.family, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"end", receiving.getsockname())
        thread.join(PATIENCE_SECONDS)
        return kept

    return Receiver(sink, received)


@pytest.fixture(scope="module")
def every_event() -> list[Event]:
    """Events with all of HOSTILE, several pieces in each handshake."""
    pieces = [b"".join(HOSTILE[at : at + 12]) for at in range(0, len(HOSTILE), 12)]
    return [event for piece in pieces for event in events(piece).values()]


@pytest.mark.parametrize("form_name", FORMATS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_output_passes_on_one_line_an_event(
    tmp_path: Path, every_event: list[Event], output: str, form_name: str
) -> None:
    receiver = OUTPUTS[output](tmp_path)
    form = FORMATS[form_name]()
    fanout = Fanout(to_all(form, [receiver.sink]))
    fanout.start()
    for event in every_event:
        assert fanout.offer(event)
    fanout.close(PATIENCE_SECONDS)
    received = receiver.received()
    assert received == [form.line(event) for event in every_event]
    for line in received:
        check_harmless(line)
        (read_json if form_name == "json" else read_syslog)(line)
