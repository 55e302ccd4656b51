"""How the user names an output."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.output.sinks.tcp import TcpSink
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink

Opener = Callable[[], Sink]
"""Makes the sink that was asked for; raises OSError if its file cannot be opened."""

_UNIX_PATH_BYTES = 107  # sockaddr_un.sun_path without its NUL, unix(7)
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")


def parse_output(spec: str) -> Opener:
    """Read ``stdout``, ``file:PATH``, ``unix:PATH``, ``udp:HOST:PORT`` or ``tcp:HOST:PORT``.

    Opens nothing yet. An IPv6 address stands in brackets. Raises ValueError with one line for the
    user that names the spec and what is wrong with it.
    """
    scheme, _, target = spec.partition(":")
    reader = _SCHEMES.get(scheme)
    try:
        if reader is None:
            raise ValueError(f"an output is one of {', '.join(_FORMS)}")
        return reader(target)
    except ValueError as error:
        raise ValueError(f"output {spec!r}: {error}") from None


def _stdout(target: str) -> Opener:
    if target:
        raise ValueError("stdout takes nothing behind it")
    return StdoutSink


def _file(target: str) -> Opener:
    return partial(FileSink, _path(target))


def _unix(target: str) -> Opener:
    path = _path(target)
    if len(path.encode(errors="surrogateescape")) > _UNIX_PATH_BYTES:
        raise ValueError(f"the path of a socket has at most {_UNIX_PATH_BYTES} bytes")
    return partial(UnixSink, path)


def _udp(target: str) -> Opener:
    return partial(UdpSink, *_address(target))


def _tcp(target: str) -> Opener:
    return partial(TcpSink, *_address(target))


_SCHEMES: dict[str, Callable[[str], Opener]] = {
    "stdout": _stdout,
    "file": _file,
    "unix": _unix,
    "udp": _udp,
    "tcp": _tcp,
}
_FORMS = ("stdout", "file:PATH", "unix:PATH", "udp:HOST:PORT", "tcp:HOST:PORT")


def _path(target: str) -> str:
    if not target:
        raise ValueError("the path is missing")
    if "\0" in target:
        raise ValueError("a path holds no NUL")
    return target


def _address(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not colon:
        raise ValueError("HOST:PORT is needed")
    if not (_PORT.fullmatch(port) and 0 < int(port) <= 65_535):
        raise ValueError(f"port {port!r} is not a number from 1 to 65535")
    return _host(host), int(port)


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        if not _IPV6.fullmatch(host[1:-1]):
            raise ValueError(f"{host!r} is not an IPv6 address")
        return host[1:-1]
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets, as in [::1]:514")
    if not _HOST.fullmatch(host) or not all(0 < len(label) < 64 for label in host.split(".")):
        raise ValueError(f"{host!r} is not a host name or address")
    return host
