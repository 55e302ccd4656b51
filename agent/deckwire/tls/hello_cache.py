"""A bounded cache of parsed hellos: most clients of a honeypot run the same tool.

Two hellos share an entry if they differ only in bytes that no fingerprint and no event uses. These
are the random value, the bytes of the session id, offered keys and tickets, padding and GREASE.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import Final, NamedTuple, TypeVar

from deckwire.limits import HELLO_CACHE, HELLO_CACHE_BYTES, HELLO_CACHED_BYTES, HELLO_LAYOUTS
from deckwire.resilience.bounded import Bounded
from deckwire.resilience.sized_cache import SizedCache
from deckwire.tls.code_points import GREASE, ExtensionType
from deckwire.tls.messages import (
    HELLO_RETRY_REQUEST,
    SESSION_ID_BYTES,
    CertificateMessage,
    ClientHello,
    Hello,
    ServerHello,
    is_early_draft,
    parse_certificate,
    parse_client_hello,
    parse_server_hello,
)

_T = TypeVar("_T", bound=Hello)

_HEADER: Final = Struct(">HH")
_HEADER_BYTES: Final = _HEADER.size
_U16: Final = Struct(">H")
_RANDOM_END: Final = 34
"""Two bytes of version and the random value."""

_Range = tuple[int, int]
"""Start and end of bytes that do not count."""
_Reduced = tuple[bytes, list[_Range]]
"""The bytes of an extension that count, and ranges of bytes in it that do not."""
_Reducers = dict[int, Callable[[bytes], _Reduced | None]]
"""Functions by extension type that reduce a whole extension. They return None if it is unusual."""


class Key(NamedTuple):
    """What identifies a hello in the cache."""

    value: bytes
    """Equal for two hellos that share an entry."""
    ignored: list[_Range]
    """Ranges of the hello, in order, that the value does not depend on as long as all other bytes
    stay the same. The random value is one: only HELLO_RETRY_REQUEST means something else."""


def is_short(hello: Hello) -> bool:
    """Return whether a hello is short enough for a cache."""
    return hello.size <= HELLO_CACHED_BYTES


class HelloCache:
    """Parses hellos and keeps those used last: HELLO_CACHE and HELLO_CACHE_BYTES for each side.

    It keeps the last Certificate message too, because a server sends the same one each time.

    The value returned may be an earlier hello with the same key. Its random value, session id and
    keys are those of the earlier hello; `session_id(body)` reads the session id of `body` itself.
    """

    def __init__(self, entries: int = HELLO_CACHE, held: int = HELLO_CACHE_BYTES) -> None:
        """`entries` and `held` are the most hellos, and bytes of memory, of each side."""
        self._clients = SizedCache[bytes, ClientHello](entries, held)
        self._servers = SizedCache[bytes, ServerHello](entries, held)
        self._client_keys = RepeatedKeys(client_key)
        self._server_keys = RepeatedKeys(server_key)
        self._last_chain: tuple[bytes, CertificateMessage] | None = None

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def client(self, body: bytes) -> ClientHello:
        """Return a whole ClientHello; raises Malformed like parse_client_hello."""
        return _cached(self._clients, self._client_keys.value, parse_client_hello, body)

    def server(self, body: bytes) -> ServerHello:
        """Return a whole ServerHello; raises Malformed like parse_server_hello."""
        return _cached(self._servers, self._server_keys.value, parse_server_hello, body)

    def chain(self, body: bytes) -> CertificateMessage:
        """Return a whole Certificate message; raises Malformed like parse_certificate."""
        if self._last_chain is not None and self._last_chain[0] == body:
            return self._last_chain[1]
        chain = parse_certificate(body)
        self._last_chain = body, chain
        return chain


def _cached(
    cache: SizedCache[bytes, _T],
    key_of: Callable[[bytes], bytes | None],
    parse: Callable[[bytes], _T],
    body: bytes,
) -> _T:
    key = key_of(body) if len(body) <= HELLO_CACHED_BYTES else None
    if key is None:
        return parse(body)
    hello = cache.get(key)
    if hello is None:
        hello = parse(body)
        cache.keep(key, hello, hello.memory)
    return hello


class RepeatedKeys:
    """Finds a key's value by one comparison if the last hello of that length had the same key.

    At most HELLO_LAYOUTS lengths are kept. This saves half the time of a usual client, whose
    hellos are alike but for the bytes that do not count.
    """

    def __init__(self, key_of: Callable[[bytes], Key | None]) -> None:
        """`key_of` is client_key or server_key."""
        self._key_of = key_of
        self._last: Bounded[tuple[int, bool], tuple[Struct, tuple[bytes, ...], bytes]] = Bounded(
            HELLO_LAYOUTS
        )

    def __len__(self) -> int:
        return len(self._last)

    def value(self, body: bytes) -> bytes | None:
        """Return the value of a hello's key; None if it has no key."""
        shape = len(body), body[2:_RANDOM_END] == HELLO_RETRY_REQUEST
        last = self._last.get(shape)
        if last is not None:
            layout, counted, value = last
            if layout.unpack(body) == counted:
                return value
        key = self._key_of(body)
        if key is None:
            return None
        layout = _layout(len(body), key.ignored)
        self._last.put(shape, (layout, layout.unpack(body), key.value))
        return key.value


def _layout(size: int, ignored: list[_Range]) -> Struct:
    """Return a format that reads all of `size` bytes outside the ignored ranges."""
    parts, at = [], 0
    for start, end in [*ignored, (size, size)]:
        parts.append(f"{start - at}s{end - start}x")
        at = end
    return Struct("".join(parts))


def head(body: bytes) -> bytes:
    """Return the part of a hello that `session_id` reads."""
    return body[: _RANDOM_END + 1 + body[_RANDOM_END]] if len(body) > _RANDOM_END else body


def session_id(body: bytes) -> bytes:
    """Return the session id of a hello that parse_client_hello or parse_server_hello accepted.

    If the hello was cut inside the session id, the bytes before the cut are returned.
    """
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return b""
    return body[_RANDOM_END + 1 : _RANDOM_END + 1 + body[_RANDOM_END]]


def client_key(body: bytes) -> Key | None:
    """Return a key of the bytes of a ClientHello that fingerprints and events use, or None.

    None stands for a hello whose lengths do not fit to the byte, whose session id is too long or
    whose key_share is malformed. The parser decides about each of those anew.
    """
    try:
        suites = _RANDOM_END + 1 + body[_RANDOM_END]
        compression = suites + 2 + _U16.unpack_from(body, suites)[0]
        extensions = compression + 1 + body[compression]
    except (IndexError, error):
        return None
    if body[_RANDOM_END] > SESSION_ID_BYTES:
        return None
    has_session_id = b"\1" if body[_RANDOM_END] else b"\0"
    parts = [body[:2], has_session_id, body[suites:extensions]]
    ignored = [(2, _RANDOM_END), (_RANDOM_END + 1, suites)]
    return _key(body, extensions, parts, ignored, _CLIENT)


def server_key(body: bytes) -> Key | None:
    """Return the same of a ServerHello; None as in client_key."""
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return None
    if body[_RANDOM_END] > SESSION_ID_BYTES:
        return None
    chosen = _RANDOM_END + 1 + body[_RANDOM_END]
    is_retry = b"\1" if body[2:_RANDOM_END] == HELLO_RETRY_REQUEST else b"\0"
    parts = [body[:2], is_retry, body[chosen : chosen + 3]]
    ignored = [(2, _RANDOM_END), (_RANDOM_END + 1, chosen)]
    return _key(body, chosen + 3, parts, ignored, _SERVER)


def _key(
    body: bytes, at: int, parts: list[bytes], ignored: list[_Range], reducers: _Reducers
) -> Key | None:
    """Add the extensions to the key's `parts` and `ignored` ranges; their block begins at `at`."""
    end = len(body)
    if at == end:
        return Key(b"".join(parts), ignored)
    if at + 2 > end or at + 2 + _U16.unpack_from(body, at)[0] != end:
        return None
    at += 2
    whole = at  # the first extension that enters byte for byte and is not in `parts` yet
    while at < end:
        if at + _HEADER_BYTES > end:
            return None
        kind, length = _HEADER.unpack_from(body, at)
        following = at + _HEADER_BYTES + length
        reduce = reducers.get(kind)
        if reduce is not None:
            reduced = reduce(body[at:following])
            if reduced is None:
                return None
            counted, ranges = reduced
            parts += body[whole:at], counted
            ignored += [(at + start, at + stop) for start, stop in ranges]
            whole = following
        at = following
    if at != end:
        return None
    parts.append(body[whole:])
    return Key(b"".join(parts), ignored)


def _only_type(extension: bytes) -> _Reduced:
    return extension[:2], [(_HEADER_BYTES, len(extension))]


def _nothing(_: bytes) -> _Reduced:
    return b"", []


def _has_body(extension: bytes) -> _Reduced:
    has_body = b"\1" if len(extension) > _HEADER_BYTES else b"\0"
    return extension[:2] + has_body, [(_HEADER_BYTES, len(extension))]


def _key_share(extension: bytes) -> _Reduced | None:
    """Reduce a well-formed key_share of a ClientHello to its type (RFC 8446, 4.2.8)."""
    ignored = []
    end = len(extension)
    at = _HEADER_BYTES + 2
    if at > end or _U16.unpack_from(extension, _HEADER_BYTES)[0] != end - at:
        return None
    while at < end:
        if at + 4 > end:
            return None
        start = at + 4
        at = start + _U16.unpack_from(extension, at + 2)[0]
        ignored.append((start, at))
    return (extension[:2], ignored) if at == end else None


_TYPE_COUNTS: _Reducers = dict.fromkeys(
    (
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.ENCRYPTED_CLIENT_HELLO,
        ExtensionType.COOKIE,
        ExtensionType.PADDING,
    ),
    _only_type,
)
_CLIENT: _Reducers = {
    **_TYPE_COUNTS,
    **dict.fromkeys(GREASE, _nothing),
    ExtensionType.SESSION_TICKET: _has_body,
    ExtensionType.KEY_SHARE: _key_share,
}
# JA3S keeps GREASE, so the extensions of servers enter with it.
_SERVER: _Reducers = {**_TYPE_COUNTS, ExtensionType.KEY_SHARE: _only_type}
