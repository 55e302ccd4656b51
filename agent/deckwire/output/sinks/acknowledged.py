"""How the user names outputs that need TLS or a spool, and the sinks made of them.

TLS, HTTP and SQLite take megabytes of memory. They are imported when such an output is opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from deckwire.errors import shown
from deckwire.limits import SPOOL_BYTES, SPOOL_BYTES_MIN
from deckwire.output.sinks.endpoint import endpoint_text, parse_endpoint
from deckwire.output.sinks.sink import Sink

if TYPE_CHECKING:
    from deckwire.output.sinks.spooled import SpoolFolder
    from deckwire.output.sinks.tls_client import TlsClient

TLS_SETTINGS = ("ca", "certificate", "key", "name")
"""What can be set for a connection over TLS."""
RELP_SETTINGS = ("tls", *TLS_SETTINGS, "spool_bytes")
HTTP_SETTINGS = ("token_file", "spool_bytes")
HTTPS_SETTINGS = (*TLS_SETTINGS, *HTTP_SETTINGS)
PATH_SETTINGS = ("ca", "certificate", "key", "token_file")
"""Settings that are paths."""

_PORTS = {"http": 80, "https": 443}
_SPOOLS = "spool"
"""The folder of the spools in the state directory."""

Own = Mapping[str, str]


def read_tls(target: str, own: Own) -> partial[Sink]:
    """``tls:HOST:PORT``; ValueError with what is wrong."""
    host, port = parse_endpoint(target)
    _need_certificate(own)
    return partial(_open_tls, host, port, dict(own))


def read_relp(target: str, own: Own) -> partial[Sink]:
    """``relp:HOST:PORT``; ValueError with what is wrong."""
    host, port = parse_endpoint(target)
    if own.get("tls", "off") not in ("on", "off"):
        raise ValueError(f"tls: {shown(own['tls'])} is neither; use on or off")
    if own.get("tls") != "on" and (extra := [key for key in TLS_SETTINGS if key in own]):
        raise ValueError(f"{extra[0]}: only with tls=on")
    _need_certificate(own)
    return partial(_open_relp, host, port, dict(own), _spool_bytes(own))


def read_http(scheme: str, target: str, own: Own) -> partial[Sink]:
    """``http://HOST/PATH`` after its scheme; ValueError with what is wrong."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    form = f"write {scheme}://HOST[:PORT]/PATH"
    if not target.startswith("//") or not target.isascii() or not target.isprintable():
        raise ValueError(f"{shown(target)} is no address; {form}")
    try:
        parts = urlsplit(f"{scheme}:{target}")
        port = parts.port
    except ValueError:
        raise ValueError(f"{shown(target)} is no address; {form}") from None
    if parts.username is not None or parts.fragment or " " in target:
        raise ValueError(f"{shown(target)}: no user, fragment or space; {form}")
    number = _PORTS[scheme] if port is None else port
    host, number = parse_endpoint(endpoint_text(parts.hostname or "", number))
    _need_certificate(own)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return partial(_open_http, scheme, (host, number, path), dict(own), _spool_bytes(own))


def _need_certificate(own: Own) -> None:
    if "key" in own and "certificate" not in own:
        raise ValueError("key: only with certificate")


def _spool_bytes(own: Own) -> int:
    text = own.get("spool_bytes", str(SPOOL_BYTES))
    if not (text.isascii() and text.isdigit()) or int(text[:20]) < SPOOL_BYTES_MIN:
        raise ValueError(f"spool_bytes: {shown(text)}; use a number from {SPOOL_BYTES_MIN}")
    return int(text[:20])


def _open_tls(host: str, port: int, own: Own, state_dir: str | None = None) -> Sink:
    from deckwire.output.sinks.tls import TlsSink  # noqa: PLC0415 - see the top

    return TlsSink(host, port, _client(host, own))


def _open_relp(
    host: str, port: int, own: Own, spool_bytes: int, state_dir: str | None = None
) -> Sink:
    folder = _folder(state_dir, spool_bytes)
    from deckwire.output.sinks.relp import RelpSink  # noqa: PLC0415

    tls = _client(host, own) if own.get("tls") == "on" else None
    return RelpSink(host, port, folder, tls)


def _open_http(
    scheme: str,
    where: tuple[str, int, str],
    own: Own,
    spool_bytes: int,
    state_dir: str | None = None,
) -> Sink:
    folder = _folder(state_dir, spool_bytes)
    from deckwire.output.sinks.http import HttpSink, Url  # noqa: PLC0415
    from deckwire.output.sinks.token_file import TokenFile  # noqa: PLC0415

    token = TokenFile(own["token_file"]) if "token_file" in own else None
    tls = _client(where[0], own) if scheme == "https" else None
    return HttpSink(Url(*where), folder, tls, token)


def _client(host: str, own: Own) -> TlsClient:
    from deckwire.output.sinks.tls_client import TlsClient, TlsSettings  # noqa: PLC0415

    return TlsClient(TlsSettings(**{key: own[key] for key in TLS_SETTINGS if key in own}), host)


def _folder(state_dir: str | None, spool_bytes: int) -> SpoolFolder:
    """Raises ValueError for the user if there is no state directory."""
    from deckwire.output.sinks.spooled import SpoolFolder  # noqa: PLC0415

    if state_dir is None:
        raise ValueError("it needs a directory for its spool; set state_dir")
    return SpoolFolder(os.path.join(state_dir, _SPOOLS), spool_bytes)
