"""A bounded cache of parsed hellos: most clients of a honeypot run the same tool.

Two hellos share an entry if they differ only in bytes that no fingerprint and no event uses. These
are the random value, the bytes of the session id, offered keys and tickets, padding and GREASE.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import TypeVar

from deckwire.limits import HELLO_CACHE, HELLO_CACHE_BYTES, HELLO_CACHED_BYTES
from deckwire.resilience.sized_cache import SizedCache
from deckwire.tls.code_points import GREASE, ExtensionType
from deckwire.tls.messages import (
    HELLO_RETRY_REQUEST,
    SESSION_ID_BYTES,
    ClientHello,
    Hello,
    ServerHello,
    is_early_draft,
    parse_client_hello,
    parse_server_hello,
)

_T = TypeVar("_T", bound=Hello)

_HEADER = Struct(">HH")
_HEADER_BYTES = _HEADER.size
_U16 = Struct(">H")
_RANDOM_END = 34
"""Two bytes of version and the random value."""
HEAD_BYTES = _RANDOM_END + 1 + SESSION_ID_BYTES
"""The part of a hello that `session_id` reads."""

_Reducers = dict[int, Callable[[bytes], bytes | None]]
"""By extension type: from a whole extension to the bytes of it that count, None if unusual."""


def is_short(hello: Hello) -> bool:
    """Return whether a hello is short enough for a cache."""
    return hello.size <= HELLO_CACHED_BYTES


class HelloCache:
    """Parses hellos and keeps those used last: HELLO_CACHE and HELLO_CACHE_BYTES for each side.

    The value returned may be an earlier hello with the same key. Its random value, session id and
    keys are those of the earlier hello; `session_id(body)` reads the session id of `body` itself.
    """

    def __init__(self, entries: int = HELLO_CACHE, held: int = HELLO_CACHE_BYTES) -> None:
        """`entries` and `held` are the most hellos, and bytes of memory, of each side."""
        self._clients = SizedCache[bytes, ClientHello](entries, held)
        self._servers = SizedCache[bytes, ServerHello](entries, held)

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def client(self, body: bytes) -> ClientHello:
        """Return a whole ClientHello; raises Malformed like parse_client_hello."""
        return _cached(self._clients, client_key, parse_client_hello, body)

    def server(self, body: bytes) -> ServerHello:
        """Return a whole ServerHello; raises Malformed like parse_server_hello."""
        return _cached(self._servers, server_key, parse_server_hello, body)


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


def session_id(body: bytes) -> bytes:
    """Return the session id of a hello that parse_client_hello or parse_server_hello accepted.

    If the hello was cut inside the session id, the bytes before the cut are returned.
    """
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return b""
    return body[_RANDOM_END + 1 : _RANDOM_END + 1 + body[_RANDOM_END]]


def client_key(body: bytes) -> bytes | None:
    """Return the bytes of a ClientHello that fingerprints and events use, or None.

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
    return _key(body, extensions, parts, _CLIENT)


def server_key(body: bytes) -> bytes | None:
    """Return the bytes of a ServerHello that fingerprints and events use; None as in client_key."""
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return None
    if body[_RANDOM_END] > SESSION_ID_BYTES:
        return None
    chosen = _RANDOM_END + 1 + body[_RANDOM_END]
    is_retry = b"\1" if body[2:_RANDOM_END] == HELLO_RETRY_REQUEST else b"\0"
    return _key(body, chosen + 3, [body[:2], is_retry, body[chosen : chosen + 3]], _SERVER)


def _key(body: bytes, at: int, parts: list[bytes], reducers: _Reducers) -> bytes | None:
    """Return `parts` with the extensions, reduced to what counts; their block begins at `at`."""
    end = len(body)
    if at == end:
        return b"".join(parts)
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
            parts += body[whole:at], reduced
            whole = following
        at = following
    if at != end:
        return None
    parts.append(body[whole:])
    return b"".join(parts)


def _only_type(extension: bytes) -> bytes:
    return extension[:2]


def _nothing(_: bytes) -> bytes:
    return b""


def _has_body(extension: bytes) -> bytes:
    return extension[:2] + (b"\1" if len(extension) > _HEADER_BYTES else b"\0")


def _key_share(extension: bytes) -> bytes | None:
    """Return the type of a well-formed key_share of a ClientHello (RFC 8446, 4.2.8)."""
    end = len(extension)
    at = _HEADER_BYTES + 2
    if at > end or _U16.unpack_from(extension, _HEADER_BYTES)[0] != end - at:
        return None
    while at < end:
        if at + 4 > end:
            return None
        at += 4 + _U16.unpack_from(extension, at + 2)[0]
    return _only_type(extension) if at == end else None


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
