"""TLS handshake messages as values, and the functions that read them from message bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from construct import Container

from deckwire.limits import CERTIFICATES
from deckwire.tls import wire
from deckwire.tls.errors import Malformed

T = TypeVar("T")

SESSION_ID_BYTES = 32
"""Longest session id (RFC 5246, 7.4.1.2)."""

_HELLO_MEMORY, _EXTENSION_MEMORY, _NUMBER_MEMORY, _NAME_MEMORY = 800, 144, 40, 56
"""Bytes of a parsed hello without its lists, and of what stands in them: extensions, numbers,
names of protocols. Objects of Python are many times as large as what they stand for."""

HELLO_RETRY_REQUEST = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)


class ExtensionType(IntEnum):
    """Extensions that are looked into or asked for."""

    SERVER_NAME = 0
    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    SESSION_TICKET = 35
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    KEY_SHARE = 51
    ENCRYPTED_CLIENT_HELLO = 0xFE0D


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a ClientHello and a ServerHello have in common.

    Of an extension that is repeated the last one counts, in every parsed field. A parsed field
    whose extension is absent or malformed is empty: `()` or None.
    """

    legacy_version: int
    random: bytes
    """32 bytes."""
    session_id: bytes
    """0 to 32 bytes."""
    extensions: tuple[tuple[int, bytes], ...]
    """(type, body) in wire order, repeated ones too."""
    malformed_extensions: tuple[int, ...]
    """Types of the extensions whose bodies are not what they should be."""
    trailing: int
    """Bytes behind the extensions. No message has any; a server answers with decode_error."""
    size: int = 0
    """Bytes of the message's body."""

    memory: int = field(default=0, init=False, compare=False, repr=False)
    """Bytes that it takes with its body as a key, estimated from above."""

    def __post_init__(self) -> None:
        self._set_memory(0)

    def _set_memory(self, lists: int) -> None:
        """Beside extensions it has lists of so many bytes. Reckoned once: it is asked for often."""
        size = _HELLO_MEMORY + 2 * self.size + _EXTENSION_MEMORY * len(self.extensions) + lists
        object.__setattr__(self, "memory", size)

    def has_extension(self, extension: int) -> bool:
        """Tell whether an extension of this type is there, whatever its body."""
        for there, _ in self.extensions:  # noqa: SIM110 # any() costs three times as much
            if there == extension:
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello(Hello):
    """RFC 8446, 4.1.2. Lists keep wire order and GREASE."""

    cipher_suites: tuple[int, ...]
    compression_methods: tuple[int, ...]
    server_name: bytes | None
    """The first host_name of extension 0 (RFC 6066, 3), as it stands on the wire."""
    alpn: tuple[bytes, ...]
    supported_versions: tuple[int, ...]
    supported_groups: tuple[int, ...]
    ec_point_formats: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    """Of extension 13 alone."""
    key_share_groups: tuple[int, ...]
    session_ticket: bytes | None
    """Body of extension 35: b"" asks for a ticket, more offers one."""
    cut: bool
    """The end of the message is missing; the lists hold what stood before the cut."""

    def __post_init__(self) -> None:
        numbers = (
            *(self.cipher_suites, self.compression_methods, self.supported_versions),
            *(self.supported_groups, self.ec_point_formats, self.signature_algorithms),
            self.key_share_groups,
        )
        self._set_memory(_NUMBER_MEMORY * sum(map(len, numbers)) + _NAME_MEMORY * len(self.alpn))

    @property
    def has_server_name(self) -> bool:
        """Tell whether extension 0 is there, with a host name or without."""
        return self.has_extension(ExtensionType.SERVER_NAME)

    @property
    def has_session_ticket(self) -> bool:
        """Tell whether a session ticket is offered, not only asked for (RFC 5077, 3.2)."""
        return bool(self.session_ticket)

    @property
    def has_pre_shared_key(self) -> bool:
        """Tell whether a pre-shared key is offered (RFC 8446, 4.2.11)."""
        return self.has_extension(ExtensionType.PRE_SHARED_KEY)

    @property
    def has_early_data(self) -> bool:
        """Tell whether 0-RTT data is announced (RFC 8446, 4.2.10)."""
        return self.has_extension(ExtensionType.EARLY_DATA)

    @property
    def has_encrypted_client_hello(self) -> bool:
        """Tell whether Encrypted ClientHello is offered, in earnest or as GREASE."""
        return self.has_extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello(Hello):
    """RFC 8446, 4.1.3, the ServerHello of older versions, and that of TLS 1.3 drafts."""

    cipher_suite: int
    compression_method: int | None
    """None in TLS 1.3 drafts up to 21, which have no such field and no session id."""
    selected_version: int | None
    """Of supported_versions."""
    alpn: bytes | None
    key_share_group: int | None

    @property
    def is_hello_retry_request(self) -> bool:
        """Tell by the random value that RFC 8446, 4.1.3 reserves for it."""
        return self.random == HELLO_RETRY_REQUEST

    @property
    def has_session_ticket(self) -> bool:
        """Tell whether a new session ticket is announced (RFC 5077, 3.2)."""
        return self.has_extension(ExtensionType.SESSION_TICKET)

    @property
    def has_pre_shared_key(self) -> bool:
        """Tell whether the server took an offered pre-shared key: the session is resumed."""
        return self.has_extension(ExtensionType.PRE_SHARED_KEY)


@dataclass(frozen=True, slots=True)
class CertificateMessage:
    """The Certificate message of TLS 1.2 and older (RFC 5246, 7.4.2)."""

    certificates: tuple[bytes, ...]
    """DER, the sender's own first; at most CERTIFICATES of them."""
    beyond: int
    """Further certificates of the chain that were counted but not kept."""

    @property
    def chain_length(self) -> int:
        """Certificates that the message holds."""
        return len(self.certificates) + self.beyond


def parse_client_hello(body: bytes, *, cut: bool = False) -> ClientHello:
    """Read a ClientHello from its message body; raises Malformed.

    With `cut` the body may end anywhere behind the random value: whatever is whole before the
    cut is there, and `cut` of the value is True. Empty cipher suite and compression lists are
    let pass, as are bytes behind the extensions: servers refuse such hellos, but what sends them
    is all the more worth a fingerprint, and where the extensions end is beyond doubt.
    """
    fields = wire.CLIENT_HELLO.parse_cut(body) if cut else wire.CLIENT_HELLO.parse(body)
    session_id = _session_id(fields)
    suites = fields.cipher_suites
    if cut and len(suites) % 2:
        suites = suites[:-1]
    extensions, trailing = _extensions(fields.rest, cut=cut)
    bodies = _Bodies(extensions)
    return ClientHello(
        legacy_version=fields.legacy_version,
        random=fields.random,
        session_id=session_id,
        cipher_suites=wire.numbers(suites),
        compression_methods=tuple(fields.compression_methods),
        extensions=extensions,
        trailing=trailing,
        server_name=bodies.read(ExtensionType.SERVER_NAME, _server_name, None),
        alpn=bodies.read(ExtensionType.ALPN, _protocol_names, ()),
        supported_versions=bodies.read(ExtensionType.SUPPORTED_VERSIONS, _numbers8, ()),
        supported_groups=bodies.read(ExtensionType.SUPPORTED_GROUPS, _numbers16, ()),
        ec_point_formats=bodies.read(ExtensionType.EC_POINT_FORMATS, _bytes8, ()),
        signature_algorithms=bodies.read(ExtensionType.SIGNATURE_ALGORITHMS, _numbers16, ()),
        key_share_groups=bodies.read(ExtensionType.KEY_SHARE, _key_share_groups, ()),
        session_ticket=bodies.get(ExtensionType.SESSION_TICKET),
        malformed_extensions=tuple(bodies.malformed),
        size=len(body),
        cut=cut,
    )


def parse_server_hello(body: bytes) -> ServerHello:
    """Read a ServerHello or HelloRetryRequest from its message body; raises Malformed."""
    version = int.from_bytes(body[:2], "big")
    if version >> 8 not in {0x03, 0x7F}:
        raise Malformed("ServerHello of an unknown version")
    draft = is_early_draft(version)
    fields = wire.SERVER_HELLO_DRAFT.parse(body) if draft else wire.SERVER_HELLO.parse(body)
    extensions, trailing = _extensions(fields.rest)
    bodies = _Bodies(extensions)
    return ServerHello(
        legacy_version=fields.legacy_version,
        random=fields.random,
        session_id=b"" if draft else _session_id(fields),
        cipher_suite=fields.cipher_suite,
        compression_method=None if draft else fields.compression_method,
        extensions=extensions,
        trailing=trailing,
        selected_version=bodies.read(ExtensionType.SUPPORTED_VERSIONS, _number, None),
        alpn=bodies.read(ExtensionType.ALPN, _protocol_name, None),
        key_share_group=bodies.read(ExtensionType.KEY_SHARE, _first_number, None),
        malformed_extensions=tuple(bodies.malformed),
        size=len(body),
    )


def parse_certificate(body: bytes, *, cut: bool = False) -> CertificateMessage:
    """Read a Certificate message of TLS 1.2 or older from its body; raises Malformed.

    An empty chain is what a client without a certificate sends. With `cut` the body may end
    anywhere: the certificates that are whole are there.
    """
    kept: list[bytes] = []
    beyond = 0
    chain = wire.VECTOR24.parse_cut(body).content if cut else wire.whole(wire.VECTOR24, body)
    for der in wire.entries24(chain, cut=cut):
        if not der:
            raise Malformed("empty certificate")
        if len(kept) < CERTIFICATES:
            kept.append(der)
        else:
            beyond += 1
    return CertificateMessage(tuple(kept), beyond)


def is_early_draft(version: int) -> bool:
    """Tell whether a legacy_version is that of a TLS 1.3 draft before 22.

    Their ServerHello is shorter; draft 22 took on the shape of TLS 1.2's. Drafts before 14 had
    no implementations that stayed.
    """
    return 0x7F0E <= version <= 0x7F15


class _Bodies:
    """Extension bodies by type, with the malformed among those that were read."""

    def __init__(self, extensions: tuple[tuple[int, bytes], ...]) -> None:
        # Only one of each type is ever parsed, so that repeating them costs the agent nothing.
        self._bodies = dict(extensions)
        self.malformed: list[int] = []

    def get(self, extension: int) -> bytes | None:
        return self._bodies.get(extension)

    def read(self, extension: int, parse: Callable[[bytes], T], absent: T) -> T:
        body = self._bodies.get(extension)
        if body is None:
            return absent
        try:
            return parse(body)
        except Malformed:
            self.malformed.append(int(extension))
            return absent


def _session_id(fields: Container) -> bytes:
    session_id: bytes = fields.session_id
    if len(session_id) > SESSION_ID_BYTES:
        raise Malformed("session id too long")
    return session_id


def _extensions(rest: bytes, *, cut: bool = False) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Return the extensions that fill the end of a hello, if any, and the bytes behind them."""
    if not rest:
        return (), 0
    block = wire.VECTOR16.parse_cut(rest) if cut else wire.VECTOR16.parse(rest)
    return tuple(wire.entries(block.content, wire.EXTENSION, cut=cut)), len(block.rest)


def _server_name(body: bytes) -> bytes | None:
    names = list(wire.entries(wire.whole(wire.VECTOR16, body), wire.SERVER_NAME))
    return next((name for kind, name in names if kind == 0), None)


def _protocol_names(body: bytes) -> tuple[bytes, ...]:
    names = wire.entries(wire.whole(wire.VECTOR16, body), wire.PROTOCOL_NAME)
    return tuple(name for _, name in names)


def _protocol_name(body: bytes) -> bytes:
    names = _protocol_names(body)
    if len(names) != 1:
        raise Malformed("not one protocol name")
    return names[0]


def _numbers8(body: bytes) -> tuple[int, ...]:
    return wire.numbers(wire.whole(wire.VECTOR8, body))


def _numbers16(body: bytes) -> tuple[int, ...]:
    return wire.numbers(wire.whole(wire.VECTOR16, body))


def _bytes8(body: bytes) -> tuple[int, ...]:
    return tuple(wire.whole(wire.VECTOR8, body))


def _key_share_groups(body: bytes) -> tuple[int, ...]:
    entries = wire.entries(wire.whole(wire.VECTOR16, body), wire.KEY_SHARE_ENTRY)
    return tuple(group for group, _ in entries)


def _number(body: bytes) -> int:
    if len(body) != 2:
        raise Malformed("not one 16-bit value")
    return int.from_bytes(body, "big")


def _first_number(body: bytes) -> int:
    # A HelloRetryRequest's key share is the group alone (RFC 8446, 4.2.8).
    return _number(body[:2])
