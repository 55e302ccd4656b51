"""Seeds for fuzzing, generated: handshakes, certificates, ring records and captures."""

from __future__ import annotations

import datetime
import functools
import re
import ssl
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from deckwire.abi import structs as abi
from deckwire.tls.records import RecordReader
from tests.support.flights import (
    Flight,
    client_hello,
    handshake,
    identity,
    server_hello,
    u16,
    vector,
)

DIGEST = re.compile(r"[0-9a-f]{32}")
JA4 = re.compile(r"t(1[0-3]|s[23]|d[1-3]|00)[di]\d\d\d\d[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")
JA4S = re.compile(r"t(1[0-3]|s[23]|d[1-3]|00)\d\d[0-9A-Za-z]{2}_[0-9a-f]{4}_[0-9a-f]{12}")
JA4X = re.compile(r"[0-9a-f]{12}_[0-9a-f]{12}_[0-9a-f]{12}")

CLIENT, SERVER = (bytes(10) + b"\xff\xff" + a for a in (b"\xc0\0\2\x01", b"\xc0\0\2\x02"))
KEY = CLIENT + SERVER + (40_000).to_bytes(2, "big") + (443).to_bytes(2, "big")
"""A flow key; end 0 is the client 192.0.2.1, end 1 the decky 192.0.2.2."""

SYN_OPTIONS = [
    bytes.fromhex("020405b40402080a00112233000000000103030a"),
    bytes.fromhex("020405b40103030801010402"),
    bytes.fromhex("020405b4010303060101080a000000010000000004020000"),
    bytes.fromhex("020405b4"),
    bytes.fromhex("01010101051a0102030405060708010203040506070801020304050607ff"),
    b"",
]


def handshake_bodies(version: ssl.TLSVersion, kind: int, **how: bool) -> list[bytes]:
    """Return the bodies of all messages of one type in a handshake by OpenSSL."""
    found = []
    for side in handshake(version, **how):
        found += [each.body for each in RecordReader().feed(side) if each.type == kind]
    return found


def client_hello_bodies() -> list[bytes]:
    """Return ClientHellos of OpenSSL, and built ones with every extension that is parsed."""
    real = [
        body
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        for resumed in (False, True)
        for body in handshake_bodies(version, 1, resumed=resumed)
    ]
    everything = client_hello(
        (0, vector(2, b"\0" + vector(2, b"decoy.example"))),
        (10, vector(2, u16(0x4A4A, 29, 23, 4588))),
        (11, vector(1, b"\0\1")),
        (13, vector(2, u16(0x0403, 0x0804, 0x1A1A))),
        (16, vector(2, vector(1, b"h2") + vector(1, b"http/1.1"))),
        (35, b"ticket"),
        (41, b"psk"),
        (42, b""),
        (43, vector(1, u16(0x2A2A, 0x0304, 0x0303))),
        (51, vector(2, u16(29) + vector(2, bytes(32)))),
        (0xFE0D, bytes(10)),
        (21, bytes(30)),
        session_id=bytes(32),
    )
    return [*real, everything, client_hello(), client_hello((10, b"\0"), (10, b"\0\2\0\x1d"))]


def server_hello_bodies() -> list[bytes]:
    """Return ServerHellos of OpenSSL, a HelloRetryRequest, and one of an early draft of TLS 1.3."""
    real = [
        *handshake_bodies(ssl.TLSVersion.TLSv1_2, 2),
        *handshake_bodies(ssl.TLSVersion.TLSv1_3, 2),
        *handshake_bodies(ssl.TLSVersion.TLSv1_3, 2, retry=True),
    ]
    draft = u16(0x7F12) + bytes(32) + u16(0x1301) + vector(2, u16(51, 4, 29, 0))
    alpn = server_hello((16, vector(2, vector(1, b"h2"))), (43, u16(0x0304)), (51, u16(29)))
    return [*real, draft, alpn, server_hello()]


@functools.cache
def certificates() -> list[bytes]:
    """Return DER certificates with every kind of key, name and extension that events have."""
    keys: list[Any] = [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - small, so that it is made quickly
        dsa.generate_private_key(1024),  # noqa: S505 - as above
    ]
    made = [identity()[1]]
    for number, key in enumerate(keys):
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Acme, "Inc" +\\;<>#'),
                x509.NameAttribute(NameOID.COMMON_NAME, f" münchen {number} "),
                x509.NameAttribute(ObjectIdentifier("1.2.3.4.5"), "other"),
            ][number % 3 :]
        )
        begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if number % 2 else x509.Name([]))
            .public_key(key.public_key())
            .serial_number(2**70 + number)
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=40_000 * number + 1))
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("decoy.example"),
                        x509.RFC822Name("a@decoy.example"),
                        x509.UniformResourceIdentifier("https://decoy.example/"),
                        x509.IPAddress(ip_address("192.0.2.1")),
                        x509.IPAddress(ip_address("2001:db8::1")),
                        x509.DirectoryName(subject),
                        x509.RegisteredID(ObjectIdentifier("1.2.840.113549")),
                        x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\2ab"),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        made.append(builder.sign(key, digest).public_bytes(serialization.Encoding.DER))
    return made


def flights() -> list[Flight]:
    """Return handshakes by OpenSSL whose clear-text flights differ in kind."""
    return [
        handshake(ssl.TLSVersion.TLSv1_2),
        handshake(ssl.TLSVersion.TLSv1_2, mutual=True),
        handshake(ssl.TLSVersion.TLSv1_2, resumed=True),
        handshake(ssl.TLSVersion.TLSv1_3),
        handshake(ssl.TLSVersion.TLSv1_3, retry=True),
    ]


def struct_bytes(name: str, **fields: Any) -> bytes:
    """Return a struct of bpf/abi.h with these fields set and all others zero."""
    schema = abi.SCHEMAS[name]
    value = schema.parse(bytes(schema.sizeof()))
    for key, content in fields.items():
        value[key] = content
    return bytes(schema.build(value))


def _parsed(name: str, **fields: Any) -> Any:
    return abi.SCHEMAS[name].parse(struct_bytes(name, **fields))


def syn_packets() -> dict[str, Any]:
    """Return a SYN packet and its SYN-ACK packet as members of a half_open or flow struct."""
    syn_options = SYN_OPTIONS[0].ljust(abi.TCP_OPTIONS_BYTES, b"\0")
    common = {"ip_version": 4, "ttl": 63, "window": 64_240, "options": syn_options}
    common["options_len"] = len(SYN_OPTIONS[0])
    return {
        "syn": _parsed("syn_packet", time_ns=1_000_000, seq=999, flags=2, **common),
        "synack": _parsed(
            "syn_packet", time_ns=2_000_000, seq=4_999, ack=1_000, flags=0x12, **common
        ),
    }


def segment_record(
    payload: bytes,
    *,
    sender: int,
    seq: int,
    time_ns: int,
    start_seq: int | None = None,
    head: str = "",
) -> bytes:
    """Return a segment record of the connection KEY, born at 1,000,000 ns; end 0 is the client.

    With `head`, of abi.HEAD_KINDS, it is one of the first of its end.
    """
    starts = abi.SAMPLE_HEAD if head else abi.SAMPLE_TLS_STARTS
    head = struct_bytes(
        "sample_head",
        time_ns=time_ns,
        born_ns=1_000_000,
        key=KEY,
        seq=seq & 0xFFFF_FFFF,
        start_seq=0 if start_seq is None else start_seq,
        payload_len=len(payload),
        copied=len(payload),
        kind=abi.SAMPLE_SEGMENT,
        sender=sender,
        client=0,
        flags=0 if start_seq is None else starts,
        ipid_class=abi.HEAD_KINDS.index(head) if head else 0,
    )
    return head + payload


def ring_records() -> list[bytes]:
    """Return samples of one connection (SYN, handshake, both flights, end, anomaly), a fragment."""
    head = {"time_ns": 3_000_000, "born_ns": 1_000_000, "key": KEY, "client": 0}
    half_open = struct_bytes("half_open", signature=77, **syn_packets())
    flight = handshake(ssl.TLSVersion.TLSv1_2)
    anomaly = struct_bytes(
        "anomaly_sample",
        head=_parsed("sample_head", kind=abi.SAMPLE_ANOMALY, seq=1_000, payload_len=9, **head),
        signature=78,
        tcp_flags=0x10,
        technique=1,
        known=1,
    )
    fragment = _parsed("sample_head", kind=abi.SAMPLE_FRAGMENT, time_ns=7_000_000)
    return [
        struct_bytes("sample_head", kind=abi.SAMPLE_SYN, **head) + half_open,
        struct_bytes("sample_head", kind=abi.SAMPLE_HANDSHAKE, **head) + half_open,
        segment_record(
            flight.client[:300], sender=0, seq=1_000, time_ns=4_000_000, start_seq=1_000
        ),
        segment_record(
            flight.server[:900], sender=1, seq=5_000, time_ns=5_000_000, start_seq=5_000
        ),
        segment_record(flight.server[900:1_800], sender=1, seq=5_900, time_ns=6_000_000),
        struct_bytes("sample_head", kind=abi.SAMPLE_END, **head)
        + flow_values()[0][: abi.FLOW_TOTALS_BYTES]
        + bytes(8),
        anomaly,
        struct_bytes("fragment_sample", head=fragment, frame_len=60, l3_off=14) + bytes(60),
    ]


def flow_values() -> list[bytes]:
    """Return values of the flows map: totals, then the SYN and SYN-ACK packets."""
    totals = {
        "born_ns": 1_000_000,
        "last_ns": 900_000_000,
        "min_iat_ns": 1_000,
        "max_iat_ns": 1_000_000,
        "established_ns": 3_000_000,
        "rtt_server_us": 1_000,
        "rtt_client_us": abi.RTT_UNKNOWN,
        "close": 1,
        "side": [_parsed("flow_side", packets=6, bytes=600, retransmits=1) for _ in range(2)],
    }
    return [struct_bytes("flow", totals=_parsed("flow_totals", **totals), key=KEY, **syn_packets())]


def tcp_frame(
    payload: bytes = b"", *, ip_version: int = 4, tags: int = 0, flags: int = 0x18
) -> bytes:
    """Return an Ethernet frame with a TCP segment; checksums are 0, as with offloading."""
    tcp = u16(40_000, 443) + bytes(7) + b"\1" + bytes([0x50, flags]) + u16(64_240, 0, 0) + payload
    if ip_version == 4:
        ip = b"\x45\0" + u16((20 + len(tcp)) & 0xFFFF) + bytes(4) + b"\x40\6\0\0" + CLIENT[12:]
        ip += SERVER[12:]
    else:
        ip = b"\x60\0\0\0" + u16(len(tcp) & 0xFFFF) + b"\6\x40" + CLIENT + SERVER
    tag = (b"\x81\0\0\5") * tags
    return bytes(12) + tag + (b"\x08\0" if ip_version == 4 else b"\x86\xdd") + ip + tcp


def pcap(*frames: bytes, order: str = "little", nanoseconds: bool = False) -> bytes:
    """Return a pcap file of Ethernet frames, one per second."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4

    def words(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, order) for value in values)  # type: ignore[arg-type]

    version = (2).to_bytes(2, order) + (4).to_bytes(2, order)  # type: ignore[arg-type]
    out = words(magic) + version + words(0, 0, 262_144, 1)
    for second, frame in enumerate(frames, 1_700_000_000):
        out += words(second, 5, len(frame), len(frame)) + frame
    return out


def pcapng(*frames: bytes) -> bytes:
    """Return a pcapng file with one section, two interfaces and all three packet blocks."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        total = (12 + len(body)).to_bytes(4, "little")
        return kind.to_bytes(4, "little") + total + body + total

    def words(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "little") for value in values)

    nanoseconds = b"\x09\0\1\0\x09\0\0\0" + b"\x0e\0\x08\0" + words(1, 0) + bytes(4)
    out = block(0x0A0D0D0A, bytes.fromhex("4d3c2b1a01000000ffffffffffffffff"))
    out += block(1, b"\1\0\0\0" + words(0)) + block(1, b"\x65\0\0\0" + words(96) + nanoseconds)
    for frame in frames:
        size = len(frame)
        out += block(6, words(0, 0x5F000, 5, size, size) + frame)
        out += block(2, b"\1\0\0\0" + words(0x17000000, 5, size, size) + frame)
        out += block(3, words(size) + frame)
    return out + block(0x0BAD, b"comment")
