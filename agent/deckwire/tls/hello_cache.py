"""Hellos parsed before: most clients of a honeypot are one tool's, most servers one decky's.

Two hellos are taken for one if they differ only in what no fingerprint and no event is made from:
the random value, the session id beyond being there, the keys and tickets that are offered, padding.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import NamedTuple, TypeVar

from deckwire.limits import HELLO_CACHE, HELLO_CACHE_BYTES, HELLO_CACHED_BYTES, HELLO_LAYOUTS
from deckwire.resilience.sized_cache import Bounded
from deckwire.tls.grease import GREASE
from deckwire.tls.messages import (
    HELLO_RETRY_REQUEST,
    SESSION_ID_BYTES,
    ClientHello,
    ExtensionType,
    Hello,
    ServerHello,
    is_early_draft,
    parse_client_hello,
    parse_server_hello,
)

_T = TypeVar("_T", bound=Hello)

_HEADER = Struct(">HH")
_U16 = Struct(">H")
_RANDOM_END = 34
"""Two bytes of version and the random value."""
HEAD_BYTES = _RANDOM_END + 1 + SESSION_ID_BYTES
"""All of a hello that session_id() looks at."""
_COOKIE, _PADDING = 44, 21
_OPAQUE = frozenset(
    {
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.ENCRYPTED_CLIENT_HELLO,
        _COOKIE,
        _PADDING,
    }
)
"""Extensions that are told by being there alone."""
_NOT_COMPARED_WHOLE = (
    _OPAQUE | GREASE | {int(ExtensionType.KEY_SHARE), int(ExtensionType.SESSION_TICKET)}
)
"""GREASE among them is not told at all."""


def is_short(hello: Hello) -> bool:
    """Whether a hello is short enough to be kept."""
    return hello.size <= HELLO_CACHED_BYTES


class Bearing(NamedTuple):
    """What makes a hello one of its kind."""

    described: bytes
    """All of it that anything is told of."""
    opaque: list[tuple[int, int]]
    """Where bytes stand that could be any others: starts and ends, in order. Two hellos of one
    length that differ nowhere else are of one kind, and if one is a HelloRetryRequest both are."""


class HelloCache:
    """Parses hellos, the ones seen last by a look-up.

    Bounded by HELLO_CACHE entries and HELLO_CACHE_BYTES, of each side.

    What it returns may be an earlier hello of the same kind: its random, session id and keys are
    that one's. The session id of the body at hand is `session_id(body)`.
    """

    def __init__(self, entries: int = HELLO_CACHE, held: int = HELLO_CACHE_BYTES) -> None:
        self._clients: Bounded[bytes, ClientHello] = Bounded(entries, held)
        self._servers: Bounded[bytes, ServerHello] = Bounded(entries, held)
        self._client_bearing = Recognition(client_bearing)
        self._server_bearing = Recognition(server_bearing)

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def client(self, body: bytes) -> ClientHello:
        """A whole ClientHello; raises Malformed as parse_client_hello does."""
        return self._known(self._clients, self._client_bearing, parse_client_hello, body)

    def server(self, body: bytes) -> ServerHello:
        """A whole ServerHello; raises Malformed as parse_server_hello does."""
        return self._known(self._servers, self._server_bearing, parse_server_hello, body)

    def _known(
        self,
        known: Bounded[bytes, _T],
        bearing_of: Callable[[bytes], bytes | None],
        parse: Callable[[bytes], _T],
        body: bytes,
    ) -> _T:
        bearing = bearing_of(body) if len(body) <= HELLO_CACHED_BYTES else None
        if bearing is None:
            return parse(body)
        hello = known.get(bearing)
        if hello is None:
            hello = parse(body)
            known.keep(bearing, hello, hello.memory)
        return hello


class Recognition:
    """What a bearing tells, by one comparison if the last hello of this length was of this kind.

    Bounded by HELLO_LAYOUTS.
    """

    def __init__(self, bearing_of: Callable[[bytes], Bearing | None]) -> None:
        self._bearing_of = bearing_of
        self._last: dict[tuple[int, bool], tuple[Struct, tuple[bytes, ...], bytes]] = {}

    def __len__(self) -> int:
        return len(self._last)

    def __call__(self, body: bytes) -> bytes | None:
        """As `bearing_of(body).described`; None where that is None."""
        shape = len(body), body[2:_RANDOM_END] == HELLO_RETRY_REQUEST
        last = self._last.get(shape)
        if last is not None:
            layout, compared, told = last
            if layout.unpack(body) == compared:
                return told
        bearing = self._bearing_of(body)
        if bearing is None:
            return None
        if len(self._last) >= HELLO_LAYOUTS:
            self._last.clear()
        layout = _around(bearing.opaque, len(body))
        self._last[shape] = layout, layout.unpack(body), bearing.described
        return bearing.described


def _around(opaque: list[tuple[int, int]], size: int) -> Struct:
    """What reads all bytes but those."""
    layout, at = [], 0
    for start, end in [*opaque, (size, size)]:
        layout.append(f"{start - at}s{end - start}x")
        at = end
    return Struct("".join(layout))


def session_id(body: bytes) -> bytes:
    """The session id of a hello that parse_client_hello or parse_server_hello has accepted.

    Of one that was cut off, what is there.
    """
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return b""
    return body[_RANDOM_END + 1 : _RANDOM_END + 1 + body[_RANDOM_END]]


def client_bearing(body: bytes) -> Bearing | None:
    """The bearing of a ClientHello; None if it is unusual.

    Unusual is whatever does not fit to the byte: the parser judges that each time anew.
    """
    try:
        suites = _RANDOM_END + 1 + body[_RANDOM_END]
        compression = suites + 2 + _U16.unpack_from(body, suites)[0]
        extensions = compression + 1 + body[compression]
    except (IndexError, error):
        return None
    if body[_RANDOM_END] > SESSION_ID_BYTES:
        return None
    parts = [body[:2], b"\1" if body[_RANDOM_END] else b"\0", body[suites:extensions]]
    return _with_extensions(body, extensions, parts, [(2, _RANDOM_END), (_RANDOM_END + 1, suites)])


def server_bearing(body: bytes) -> Bearing | None:
    """The same of a ServerHello."""
    if is_early_draft(int.from_bytes(body[:2], "big")) or len(body) <= _RANDOM_END:
        return None
    if body[_RANDOM_END] > SESSION_ID_BYTES:
        return None
    chosen = _RANDOM_END + 1 + body[_RANDOM_END]
    retry = b"\1" if body[2:_RANDOM_END] == HELLO_RETRY_REQUEST else b"\0"
    parts = [body[:2], retry, body[chosen : chosen + 3]]
    opaque = [(2, _RANDOM_END), (_RANDOM_END + 1, chosen)]
    return _with_extensions(body, chosen + 3, parts, opaque)


def _with_extensions(
    body: bytes, at: int, parts: list[bytes], opaque: list[tuple[int, int]]
) -> Bearing | None:
    end = len(body)
    if at == end:
        return Bearing(b"".join(parts), opaque)
    if at + 2 > end or at + 2 + _U16.unpack_from(body, at)[0] != end:
        return None
    at += 2
    while at < end:
        start = at + 4
        if start > end:
            return None
        kind, length = _HEADER.unpack_from(body, at)
        header, at = at, start + length
        if at > end:
            return None
        if kind not in _NOT_COMPARED_WHOLE:
            parts.append(body[header:at])
        elif kind == ExtensionType.KEY_SHARE:
            shares = _without_keys(body[start:at])
            if shares is None:
                return None
            parts.append(body[header : header + 2] + shares.described)
            opaque += [(start + first, start + last) for first, last in shares.opaque]
        elif kind == ExtensionType.SESSION_TICKET:
            parts.append(body[header : header + 2] + (b"\1" if length else b"\0"))
            opaque.append((start, at))
        elif kind in _OPAQUE:
            parts.append(body[header : header + 2])
            opaque.append((start, at))
    return Bearing(b"".join(parts), opaque)


def _without_keys(body: bytes) -> Bearing | None:
    """The groups of key_share (RFC 8446, 4.2.8), whichever hello it stands in; None if odd.

    Counted: else a group would pass for the extension behind it, and a peer could make a hello
    that is taken for another's.
    """
    if len(body) == 2:
        return Bearing(b"\2" + body, [])
    listed = len(body) >= 2 and _U16.unpack_from(body)[0] == len(body) - 2
    at = 2 if listed else 0
    groups: list[bytes] = []
    keys: list[tuple[int, int]] = []
    while at < len(body):
        if at + 4 > len(body):
            return None
        groups.append(body[at : at + 2])
        key = at + 4
        at = key + _U16.unpack_from(body, at + 2)[0]
        keys.append((key, at))
    if at != len(body):
        return None
    told = (b"\1" if listed else b"\0") + _U16.pack(len(groups)) + b"".join(groups)
    return Bearing(told, keys)
