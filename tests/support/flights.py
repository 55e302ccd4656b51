"""TLS handshakes for tests: by OpenSSL in memory, and built by hand."""

from __future__ import annotations

import datetime
import functools
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "decoy.example"
SSL2 = bytes.fromhex("802e01030100150000001000002f00003500000a0100800700c00000ff") + bytes(
    range(19)
)
"""A ClientHello of SSL 2.0 that offers TLS 1.0: seven cipher specs, two of them of SSL 2.0."""


class Flight(NamedTuple):
    """The bytes that each side of a handshake sent."""

    client: bytes
    server: bytes


@functools.cache
def identity() -> tuple[bytes, bytes]:
    """Return a self-signed certificate: PEM of key and certificate, DER of the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    return pem, certificate.public_bytes(serialization.Encoding.DER)


def context(
    protocol: int, version: ssl.TLSVersion, *, alpn: list[str], mutual: bool = False
) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.minimum_version = made.maximum_version = version
    made.set_alpn_protocols(alpn)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "identity.pem"
        pem.write_bytes(identity()[0])
        if mutual or protocol == ssl.PROTOCOL_TLS_SERVER:
            made.load_cert_chain(pem)
        made.load_verify_locations(pem)
    if mutual:
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[Flight, ssl.SSLSession | None]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=NAME, session=session),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    sent = {"client": b"", "server": b""}
    waiting = {0, 1}
    for _ in range(10):
        for n, (name, source, target) in enumerate(
            [("client", to_server, to_server), ("server", to_client, to_client)]
        ):
            if n in waiting:
                try:
                    sides[n].do_handshake()
                    waiting.discard(n)
                except ssl.SSLWantReadError:
                    pass
            data = source.read()
            sent[name] += data
            target.write(data)
    if waiting:
        raise AssertionError("the handshake did not end")
    return Flight(**sent), sides[0].session


@functools.cache
def handshake(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    *,
    mutual: bool = False,
    retry: bool = False,
    resumed: bool = False,
) -> Flight:
    """Return a whole handshake; `retry` makes a TLS 1.3 server send a HelloRetryRequest."""
    client = context(ssl.PROTOCOL_TLS_CLIENT, version, alpn=["h2", "http/1.1"], mutual=mutual)
    server = context(ssl.PROTOCOL_TLS_SERVER, version, alpn=["http/1.1"], mutual=mutual)
    if retry:
        server.set_ecdh_curve("secp384r1")
    flight, session = shake_hands(client, server)
    if resumed:
        flight, _ = shake_hands(client, server, session)
    return flight


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def extension_block(*extensions: tuple[int, bytes]) -> bytes:
    return vector(2, b"".join(u16(kind) + vector(2, body) for kind, body in extensions))


def client_hello(
    *extensions: tuple[int, bytes],
    version: int = 0x0303,
    suites: bytes = u16(0x1301, 0xC02F),
    session_id: bytes = b"",
    compression: bytes = b"\0",
) -> bytes:
    """Return the message body of a ClientHello, without an extension block if it has none."""
    body = u16(version) + bytes(range(32)) + vector(1, session_id)
    body += vector(2, suites) + vector(1, compression)
    return body + (extension_block(*extensions) if extensions else b"")


def server_hello(
    *extensions: tuple[int, bytes],
    version: int = 0x0303,
    suite: int = 0xC02F,
    session_id: bytes = b"",
    random: bytes = bytes(range(32)),
) -> bytes:
    body = u16(version) + random + vector(1, session_id) + u16(suite) + b"\0"
    return body + (extension_block(*extensions) if extensions else b"")


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + vector(3, body)


def record(content: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    return bytes([kind]) + u16(version) + vector(2, content)
