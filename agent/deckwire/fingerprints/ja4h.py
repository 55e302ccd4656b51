"""JA4H, the method of FoxIO's JA4+ suite for requests of HTTP.

JA4+ has the FoxIO License 1.1: see `ja4plus`. This was written from the published definition.
docs/fingerprints.md says what is decided where the definition is silent.
"""

from __future__ import annotations

from hashlib import sha256

from deckwire.http.messages import Headers
from deckwire.http.reader import Request

_NOTHING = "0" * 12
_MOST_HEADERS = 99
_LANGUAGE = 4
_LEFT_OUT = (b"cookie", b"referer")


def ja4h(request: Request) -> str:
    """JA4H of a request whose whole head was seen."""
    headers = request.headers
    names = [name for name, _ in headers if name.rstrip().lower() not in _LEFT_OUT]
    cookies = _cookies(headers)
    start = "".join(
        [
            _method(request.line.method),
            request.line.version.replace(".", ""),
            "n" if headers.get(b"cookie") is None else "c",
            "n" if headers.get(b"referer") is None else "r",
            f"{min(len(names), _MOST_HEADERS):02d}",
            _language(headers),
        ]
    )
    hashes = [
        _hash(names),
        _hash([name for name, _ in cookies]),
        _hash([one for _, one in cookies]),
    ]
    return "_".join([start, *hashes])


def _method(method: bytes) -> str:
    """Its first two letters in lower case, filled up with zeros."""
    letters = [chr(one) for one in method.lower() if ord("a") <= one <= ord("z")]
    return "".join(letters[:2]).ljust(2, "0")


def _language(headers: Headers) -> str:
    """Four characters of the first language, without hyphens, filled up with zeros."""
    value = headers.get(b"accept-language") or b""
    first = value.partition(b",")[0].partition(b";")[0].strip()
    text = first.replace(b"-", b"").lower().decode("utf-8", "surrogateescape")
    return text[:_LANGUAGE].ljust(_LANGUAGE, "0")


def _cookies(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Name and whole text of each cookie, sorted by both."""
    texts = b";".join(headers.all(b"cookie")).split(b";")
    pairs = [one.strip() for one in texts]
    return sorted([(one.partition(b"=")[0], one) for one in pairs if one])


def _hash(parts: list[bytes]) -> str:
    return sha256(b",".join(parts)).hexdigest()[: len(_NOTHING)] if parts else _NOTHING
