"""TLS handshake messages as values, and the functions that parse them from message bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from deckwire.limits import CERTIFICATES
from deckwire.tls import wire
from deckwire.tls.code_points import DRAFT_MAJOR, ExtensionType
from deckwire.tls.errors import Malformed
from deckwire.tls.ssl2 import read_hello

T = TypeVar("T")

SESSION_ID_BYTES = 32
"""Longest session id (RFC 5246, 7.4.1.2)."""

_HELLO_MEMORY, _EXTENSION_MEMORY, _NUMBER_MEMORY, _NAME_MEMORY = 800, 144, 40, 56
"""Bytes of a parsed hello without its lists, and of what stands in them: extensions, numbers,
names of protocols. Objects of Python are many times as large as what they stand for."""

HELLO_RETRY_REQUEST = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
"""The random value of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The fields that a ClientHello and a ServerHello share.

    If an extension is repeated, the last one counts in every parsed field. If an extension is
    absent or malformed, its parsed field is empty: `()` or None.
    """

    legacy_version: int
    random: bytes
    """32 bytes."""
    session_id: bytes
    """0 to SESSION_ID_BYTES; one of up to 255 bytes is malformed, but servers may echo it."""
    extensions: tuple[tuple[int, bytes], ...]
    """(type, body) in wire order, with repetitions."""
    trailing: int
    """Number of bytes after the extensions. A valid hello has none: a peer answers decode_error."""
    size: int = 0
    """Length of the message body in bytes."""

    memory: int = field(default=0, init=False, compare=False, repr=False)
    """Bytes that it takes with its body as a key, estimated from above."""

    def __post_init__(self) -> None:
        self._set_memory(0)

    def _set_memory(self, lists: int) -> None:
        """Estimate once, because it is read often; `lists` is what lists but extensions take."""
        size = _HELLO_MEMORY + 2 * self.size + _EXTENSION_MEMORY * len(self.extensions) + lists
        object.__setattr__(self, "memory", size)

    def has_extension(self, extension: int) -> bool:
        """Return whether an extension of this type is present, whatever its body."""
        for kind, _ in self.extensions:  # noqa: SIM110 # any() takes three times as long
            if kind == extension:
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello(Hello):
    """A ClientHello (RFC 8446, 4.1.2). Lists keep wire order and GREASE."""

    malformed_extensions: tuple[int, ...]
    """Types of the parsed extensions whose bodies do not follow their format."""
    cipher_suites: tuple[int, ...]
    server_name: bytes | None
    """The first host_name of extension 0 (RFC 6066, 3), byte for byte."""
    alpn: tuple[bytes, ...]
    supported_versions: tuple[int, ...]
    supported_groups: tuple[int, ...]
    ec_point_formats: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    """From signature_algorithms alone, not from signature_algorithms_cert."""
    has_session_ticket: bool
    """The hello offers a session ticket; an empty extension only asks for one (RFC 5077, 3.2)."""
    cut: bool
    """The end of the message is missing; the lists hold what came before the cut."""
    ssl2: bool = False
    """It came in the form of SSL 2.0: `cipher_suites` holds specs of 24 bits, and there is no
    fingerprint of it."""

    def __post_init__(self) -> None:
        numbers = (
            *(self.cipher_suites, self.supported_versions, self.supported_groups),
            *(self.ec_point_formats, self.signature_algorithms),
        )
        self._set_memory(_NUMBER_MEMORY * sum(map(len, numbers)) + _NAME_MEMORY * len(self.alpn))

    @property
    def malformed(self) -> bool:
        """Return whether servers refuse it for its form."""
        too_long = len(self.session_id) > SESSION_ID_BYTES
        return bool(self.malformed_extensions or self.trailing or too_long)

    @property
    def has_pre_shared_key(self) -> bool:
        """Return whether the client offers a pre-shared key (RFC 8446, 4.2.11)."""
        return self.has_extension(ExtensionType.PRE_SHARED_KEY)

    @property
    def has_early_data(self) -> bool:
        """Return whether the client announces 0-RTT data (RFC 8446, 4.2.10)."""
        return self.has_extension(ExtensionType.EARLY_DATA)

    @property
    def has_encrypted_client_hello(self) -> bool:
        """Return whether the client offers Encrypted ClientHello, also if it is only GREASE."""
        return self.has_extension(ExtensionType.ENCRYPTED_CLIENT_HELLO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello(Hello):
    """A ServerHello of TLS 1.3 (RFC 8446, 4.1.3), of its drafts or of an older version."""

    cipher_suite: int
    selected_version: int | None
    """The version in supported_versions."""
    alpn: bytes | None
    """The protocol chosen, if it is in clear text."""

    @property
    def is_hello_retry_request(self) -> bool:
        """Return whether the random value is the one of a HelloRetryRequest."""
        return self.random == HELLO_RETRY_REQUEST

    @property
    def has_pre_shared_key(self) -> bool:
        """Return whether the server accepted a pre-shared key, so the session is resumed."""
        return self.has_extension(ExtensionType.PRE_SHARED_KEY)


@dataclass(frozen=True, slots=True)
class CertificateMessage:
    """A Certificate message of TLS 1.2 or older (RFC 5246, 7.4.2)."""

    certificates: tuple[bytes, ...]
    """DER, the sender's own certificate first; at most CERTIFICATES of them."""
    chain_length: int
    """Number of certificates in the message, with those that were not kept."""


def parse_client_hello(body: bytes, *, cut: bool = False) -> ClientHello:
    """Parse a ClientHello from its message body; raises Malformed.

    With `cut` the body may end anywhere after the random value. The fields that are complete
    before the cut are returned, and `cut` of the value is True.

    Empty lists of cipher suites and compression methods pass, and so do session ids that are too
    long and bytes after the extensions. Servers refuse such hellos, but an unusual client is worth
    a fingerprint, and it is clear where the extensions end.
    """
    fields = wire.CLIENT_HELLO.parse_cut(body) if cut else wire.CLIENT_HELLO.parse(body)
    suites = fields.cipher_suites
    if cut and len(suites) % 2:
        suites = suites[:-1]
    extensions, trailing = _extensions(fields.rest, cut=cut)
    bodies = _Bodies(extensions)
    # The groups are not used, but a malformed key_share makes the hello malformed.
    bodies.read(ExtensionType.KEY_SHARE, _key_share_groups, None)
    return ClientHello(
        legacy_version=fields.legacy_version,
        random=fields.random,
        session_id=fields.session_id,
        cipher_suites=wire.numbers(suites),
        extensions=extensions,
        trailing=trailing,
        server_name=bodies.read(ExtensionType.SERVER_NAME, _server_name, None),
        alpn=bodies.read(ExtensionType.ALPN, _protocol_names, ()),
        supported_versions=bodies.read(ExtensionType.SUPPORTED_VERSIONS, _numbers8, ()),
        supported_groups=bodies.read(ExtensionType.SUPPORTED_GROUPS, _numbers16, ()),
        ec_point_formats=bodies.read(ExtensionType.EC_POINT_FORMATS, _bytes8, ()),
        signature_algorithms=bodies.read(ExtensionType.SIGNATURE_ALGORITHMS, _numbers16, ()),
        has_session_ticket=bool(bodies.get(ExtensionType.SESSION_TICKET)),
        malformed_extensions=tuple(bodies.malformed),
        size=len(body),
        cut=cut,
    )


def parse_ssl2_client_hello(body: bytes) -> ClientHello:
    """Parse a ClientHello of SSL 2.0 from its record's content; raises Malformed."""
    version, specs = read_hello(body)
    return ClientHello(
        legacy_version=version,
        random=b"",
        session_id=b"",
        cipher_suites=specs,
        extensions=(),
        trailing=0,
        server_name=None,
        alpn=(),
        supported_versions=(),
        supported_groups=(),
        ec_point_formats=(),
        signature_algorithms=(),
        has_session_ticket=False,
        malformed_extensions=(),
        size=len(body),
        cut=False,
        ssl2=True,
    )


def parse_server_hello(body: bytes) -> ServerHello:
    """Parse a ServerHello or HelloRetryRequest from its message body; raises Malformed."""
    version = int.from_bytes(body[:2], "big")
    if version >> 8 not in {0x03, DRAFT_MAJOR}:
        raise Malformed("ServerHello of an unknown version")
    draft = is_early_draft(version)
    fields = wire.SERVER_HELLO_DRAFT.parse(body) if draft else wire.SERVER_HELLO.parse(body)
    extensions, trailing = _extensions(fields.rest)
    bodies = _Bodies(extensions)
    return ServerHello(
        legacy_version=fields.legacy_version,
        random=fields.random,
        session_id=b"" if draft else fields.session_id,
        cipher_suite=fields.cipher_suite,
        extensions=extensions,
        trailing=trailing,
        selected_version=bodies.read(ExtensionType.SUPPORTED_VERSIONS, _number, None),
        alpn=bodies.read(ExtensionType.ALPN, _protocol_name, None),
        size=len(body),
    )


def parse_certificate(body: bytes, *, cut: bool = False) -> CertificateMessage:
    """Parse a Certificate message of TLS 1.2 or older from its body; raises Malformed.

    A client without a certificate sends an empty chain. With `cut` the body may end anywhere,
    and the certificates that are complete are returned.
    """
    kept: list[bytes] = []
    chain_length = 0
    chain = wire.VECTOR24.parse_cut(body).content if cut else wire.whole(wire.VECTOR24, body)
    for der in wire.entries24(chain, cut=cut):
        if not der:
            raise Malformed("empty certificate")
        chain_length += 1
        if chain_length <= CERTIFICATES:
            kept.append(der)
    return CertificateMessage(tuple(kept), chain_length)


def is_early_draft(version: int) -> bool:
    """Return whether a legacy_version is that of a TLS 1.3 draft from 14 to 21.

    These drafts have a shorter ServerHello; draft 22 adopted the format of TLS 1.2. No
    implementation of an older draft is in use.
    """
    return DRAFT_MAJOR << 8 | 14 <= version <= DRAFT_MAJOR << 8 | 21


class _Bodies:
    """Extension bodies by type, and the types of those that turned out to be malformed."""

    def __init__(self, extensions: tuple[tuple[int, bytes], ...]) -> None:
        # Only one body of each type is parsed, so a peer gains nothing by repeating extensions.
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
            self.malformed.append(extension)
            return absent


def _extensions(rest: bytes, *, cut: bool = False) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Return the extensions at the end of a hello, and the number of bytes after them."""
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
