"""TLS outputs: who is believed, who is not, and which lines are in doubt at the end."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deckwire.lab.namespaces import PATIENCE_SECONDS
from deckwire.output.sinks.spec import parse_output
from deckwire.output.sinks.spooled import SpooledSink
from deckwire.output.sinks.tls import TlsSink
from deckwire.output.sinks.tls_client import TlsClient, TlsSettings
from tests.support.rsyslog_server import is_settled, wait_until

NAME = "logs.example.test"
LINES = [b"<134>1 line %d" % number for number in range(50)]
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Files:
    """Paths of PEM files."""

    certificate: str
    key: str


class Authority:
    """Signs certificates, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = str(folder / f"{name}.pem")
        Path(self.path).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str, *, days: int = 1) -> Files:
        """Certificates of one name have the same key."""
        key = self._keys.setdefault(name, ec.generate_private_key(ec.SECP256R1()))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(NOW + days * DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = Files(str(self.folder / f"{name}.{days}.crt"), str(self.folder / f"{name}.key"))
        Path(files.certificate).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(files.key).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        yield server


class Server:
    """Accepts one TLS connection after another, and keeps what each one sent."""

    def __init__(self, listener: socket.socket, files: Files, client_ca: str = "") -> None:
        self._listener = listener
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.show(files)
        if client_ca:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        self.received: list[bytes] = []
        self.failures: list[str] = []
        self.versions: list[str | None] = []
        self.peers: list[object] = []
        """The serial number of each client's certificate, or None."""
        Thread(target=self._serve, daemon=True).start()

    def show(self, files: Files) -> None:
        """Use this certificate for the connections from now on."""
        self._context.load_cert_chain(files.certificate, files.key)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connected:
                    self.versions.append(connected.version())
                    self.peers.append((connected.getpeercert() or {}).get("serialNumber"))
                    self.received.append(b"")
                    while data := connected.recv(1 << 16):
                        self.received[-1] += data
            except OSError as error:
                self.failures.append(str(error))


def sink_to(listener: socket.socket, settings: TlsSettings) -> TlsSink:
    host, port = listener.getsockname()
    made = TlsSink(host, port, TlsClient(settings, host))
    made.start()
    return made


def counted(lines: list[bytes]) -> bytes:
    return b"".join(b"%d %b" % (len(line), line) for line in lines)


def test_lines_arrive_over_tls(listener: socket.socket, authority: Authority) -> None:
    server = Server(listener, authority.certify(NAME))
    sink = sink_to(listener, TlsSettings(ca=authority.path, name=NAME))
    assert sink.offer_all(LINES) == 50
    wait_until(lambda: sink.counters().written == 50, "all are written")
    sink.close(PATIENCE_SECONDS)
    wait_until(lambda: server.received == [counted(LINES)], "all have arrived")
    assert sink.counters().dropped == {}
    assert server.versions[0] in {"TLSv1.2", "TLSv1.3"}


def test_a_client_certificate_is_shown(listener: socket.socket, authority: Authority) -> None:
    ours = authority.certify("sensor.example.test")
    server = Server(listener, authority.certify(NAME), client_ca=authority.path)
    settings = TlsSettings(authority.path, ours.certificate, ours.key, NAME)
    sink = sink_to(listener, settings)
    sink.offer_all(LINES)
    wait_until(lambda: server.received == [counted(LINES)], "all have arrived")
    sink.close(PATIENCE_SECONDS)
    assert sink.counters().written == 50


@pytest.mark.parametrize(
    ("name", "days", "other_authority", "reason"),
    [
        ("evil.example.test", 1, False, "Hostname mismatch"),
        (NAME, -1, False, "certificate has expired"),
        (NAME, 1, True, "unable to get local issuer certificate"),
    ],
)
def test_a_wrong_certificate_gets_no_line(
    listener: socket.socket,
    authority: Authority,
    tmp_path: Path,
    name: str,
    days: int,
    other_authority: bool,
    reason: str,
) -> None:
    signer = Authority(tmp_path, "other") if other_authority else authority
    server = Server(listener, signer.certify(name, days=days))
    sink = sink_to(listener, TlsSettings(ca=authority.path, name=NAME))
    sink.offer_all(LINES)
    wait_until(lambda: sink.counters().errors, "the output has failed")
    assert f"its certificate is refused: {reason}" in sink.counters().last_error
    assert server.received == []
    assert sink.counters().queued == 50
    sink.close(0)


def test_a_receiver_without_tls_is_one_clear_error(
    listener: socket.socket, authority: Authority
) -> None:
    sink = sink_to(listener, TlsSettings(ca=authority.path, name=NAME))
    sink.offer_all(LINES)
    peer, _ = listener.accept()
    with peer:
        peer.sendall(b"220 mail.example ESMTP\r\n")
        wait_until(lambda: sink.counters().errors, "the output has failed")
    assert "TLS fails: wrong version number" in sink.counters().last_error
    sink.close(0)


def test_lines_wait_for_a_receiver_that_restarts(
    listener: socket.socket, authority: Authority
) -> None:
    files = authority.certify(NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    sink = sink_to(listener, TlsSettings(ca=authority.path, name=NAME))
    sink.offer_all(LINES[:10])
    with context.wrap_socket(listener.accept()[0], server_side=True) as first:
        expected = counted(LINES[:10])
        data = b""
        while len(data) < len(expected):
            data += first.recv(1 << 16)
        assert data == expected
        wait_until(lambda: is_settled(sink), "the lines are settled")
    server = Server(listener, files)
    sink.offer_all(LINES[10:])
    wait_until(lambda: server.received == [counted(LINES[10:])], "the others have arrived")
    sink.close(PATIENCE_SECONDS)
    assert sink.counters().dropped == {}


def test_files_that_change_are_read_again(
    listener: socket.socket, authority: Authority, tmp_path: Path
) -> None:
    """The receiver is right from the start. Our own files are wrong, then gone, then right."""
    server = Server(listener, authority.certify(NAME), client_ca=authority.path)
    ours = authority.certify("sensor.example.test")
    stranger = Authority(tmp_path, "stranger").certify("stranger.example.test")
    files = Files(str(tmp_path / "our.crt"), str(tmp_path / "our.key"))

    def show(files_now: Files) -> None:
        for now, path in zip(astuple(files_now), astuple(files), strict=True):
            shutil.copy(now, f"{path}.new")
            os.replace(f"{path}.new", path)

    ca = tmp_path / "trusted.pem"
    shutil.copy(tmp_path / "stranger.pem", ca)
    show(stranger)
    sink = sink_to(listener, TlsSettings(str(ca), files.certificate, files.key, NAME))
    sink.offer_all(LINES)

    def fails(reason: str) -> bool:
        return reason in sink.counters().last_error

    wait_until(lambda: fails("its certificate is refused"), "it believes nobody")
    ca.unlink()
    wait_until(lambda: fails(f"{ca}: No such file or directory"), "its file is gone")
    ca.write_text("nothing")
    wait_until(lambda: fails(f"{ca}: holds no PEM"), "its file is wrong")
    shutil.copy(authority.path, ca)
    wait_until(lambda: server.failures, "the receiver does not believe it")
    show(ours)
    # What the receiver did not read, when it refused, is in doubt.
    wait_until(lambda: any(server.received) or not sink.counters().queued, "it is believed")
    sink.offer_all([b"last"])
    wait_until(lambda: any(b"4 last" in data for data in server.received), "lines arrive")
    sink.close(PATIENCE_SECONDS)


def serial(path: str) -> str:
    """As `getpeercert` has it."""
    number = x509.load_pem_x509_certificate(Path(path).read_bytes()).serial_number
    text = f"{number:X}"
    return text.zfill(len(text) + len(text) % 2)


def test_a_reopened_output_shows_a_renewed_certificate(
    listener: socket.socket, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    """While a new file is wrong, the connection stands that was made with the one before."""
    server = Server(listener, authority.certify(NAME), client_ca=authority.path)
    ours = authority.certify("sensor.example.test")
    sink = sink_to(listener, TlsSettings(authority.path, ours.certificate, ours.key, NAME))
    serials = [serial(ours.certificate)]
    sink.offer(b"one")
    wait_until(lambda: server.received == [b"3 one"], "it has arrived")
    Path(ours.certificate).write_text("nothing")
    sink.reopen()
    wait_until(lambda: sink.counters().errors.get("reopen_error"), "it is refused")
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert f"output {sink.name}: {ours.certificate}: holds no PEM that can be used" in said
    assert said.endswith("; correct the file, then send SIGHUP; not opened again\n")
    sink.offer(b"two")
    wait_until(lambda: server.received == [b"3 one3 two"], "the connection stands")
    authority.certify("sensor.example.test")
    serials.append(serial(ours.certificate))
    sink.reopen()
    sink.offer(b"three")
    wait_until(lambda: server.received == [b"3 one3 two", b"5 three"], "it has connected anew")
    assert server.peers == serials
    sink.close(PATIENCE_SECONDS)
    assert sink.counters().dropped == {}


@pytest.mark.parametrize("spec", ["tls:127.0.0.1:1", "relp:127.0.0.1:1", "https://127.0.0.1:1/"])
def test_a_wrong_file_is_reported_when_it_is_to_be_read_again(
    spec: str, authority: Authority, tmp_path: Path
) -> None:
    own = {"ca": authority.path} | ({"tls": "on"} if spec.startswith("relp") else {})
    sink = parse_output(spec, own)(str(tmp_path))
    sink.start()
    if isinstance(sink, SpooledSink):
        wait_until(lambda: sink._carried, "the spool is open")
    Path(authority.path).unlink()
    sink.reopen()
    wait_until(lambda: sink.counters().errors.get("reopen_error"), "it is refused")
    assert f"{authority.path}: No such file" in sink.counters().last_error
    assert sink.failure() == ""
    sink.close(0)


def test_the_systems_certificates_are_read_again_too(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted.pem"
    shutil.copy(authority.path, trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    client = TlsClient(TlsSettings(), NAME)
    before = client.context
    assert len(before.get_ca_certs()) == 1
    client.read_changed_files()
    assert client.context is before
    other = Authority(tmp_path, "other")
    shutil.copy(other.path, trusted)
    client.read_changed_files()
    (found,) = client.context.get_ca_certs()
    assert found["serialNumber"] == serial(other.path)


@pytest.mark.parametrize("what", ["ca", "certificate", "key"])
def test_a_file_that_is_no_pem_is_named(tmp_path: Path, authority: Authority, what: str) -> None:
    files = authority.certify(NAME)
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    paths = {"ca": authority.path, "certificate": files.certificate, "key": files.key}
    for path, errno_text in ((bad, "holds no PEM"), (tmp_path / "none.pem", "No such file")):
        with pytest.raises(OSError, match=errno_text) as caught:
            TlsClient(TlsSettings(**(paths | {what: str(path)})), NAME)
        assert caught.value.filename == str(path)
