"""How the user names an output: the one table of all kinds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from deckwire.errors import shown
from deckwire.output.sinks.acknowledged import (
    HTTP_SETTINGS,
    HTTPS_SETTINGS,
    RELP_SETTINGS,
    TLS_SETTINGS,
    read_http,
    read_relp,
    read_tls,
)
from deckwire.output.sinks.endpoint import parse_endpoint
from deckwire.output.sinks.file import FileSink
from deckwire.output.sinks.owner import Creation, parse_mode, parse_owner
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.stdout import StdoutSink
from deckwire.output.sinks.tcp import TcpSink
from deckwire.output.sinks.twin import TwinSink, twin_path
from deckwire.output.sinks.udp import UdpSink
from deckwire.output.sinks.unix import UnixSink


class Opener(Protocol):
    """Makes the sink. Raises ValueError or OSError if it cannot be made now."""

    def __call__(self, state_dir: str | None = None) -> Sink:
        """`state_dir` is for outputs that keep a spool; None: there is no such directory."""
        ...


_UNIX_PATH_BYTES = 107
"""sockaddr_un.sun_path without its NUL, unix(7)."""
_FILE_SETTINGS = ("owner", "mode", "twin")
OWN = (*_FILE_SETTINGS, "tls", *HTTPS_SETTINGS)
"""Settings that only some kinds of output have."""
TWIN = "decnet-json"
"""The format of a twin."""
NO_TWIN = "off"
"""The value of `twin` that asks for none, where a profile would set one."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of output."""

    form: str
    """How it is written."""
    read: Callable[[str, Mapping[str, str]], Opener]
    """Reads what follows the first colon, and own settings; ValueError with what is wrong."""
    has_path: bool = False
    """A path follows the colon."""
    own: tuple[str, ...] = ()
    """Settings that this kind has in addition to those of all outputs."""


def parse_output(spec: str, own: Mapping[str, str] = _NOTHING) -> Opener:
    """Read an output such as ``udp:HOST:PORT``. Only the Opener opens anything.

    `own` has settings of this kind alone, such as ``owner``. Raises ValueError with one line for
    the user.
    """
    scheme, _, target = spec.partition(":")
    kind = _KINDS.get(scheme)
    try:
        if kind is None:
            raise ValueError(
                f"no such output; use {', '.join(one.form for one in _KINDS.values())}"
            )
        for key in own:
            if key not in kind.own:
                having = ", ".join(one.form for one in _KINDS.values() if key in one.own)
                raise ValueError(f"{key} is no setting of this output; only {having} has it")
        return kind.read(target, own)
    except ValueError as error:
        raise ValueError(f"output {shown(spec)}: {error}") from None


def from_folder(spec: str, folder: str) -> str:
    """The output with its path from `folder` on, if it has a relative one."""
    scheme, _, target = spec.partition(":")
    kind = _KINDS.get(scheme)
    if kind is None or not kind.has_path or not target:
        return spec
    return f"{scheme}:{os.path.join(folder, target)}"


def file_path(spec: str) -> str | None:
    """The path of a ``file`` output; None for other outputs."""
    scheme, _, target = spec.partition(":")
    return target if scheme == FileSink.scheme else None


def _without_state(make: Callable[[], Sink]) -> Opener:
    def open_it(state_dir: str | None = None) -> Sink:
        return make()

    return open_it


def _stdout(target: str, _own: Mapping[str, str]) -> Opener:
    if target:
        raise ValueError("nothing may follow stdout; write it alone")
    return _without_state(StdoutSink)


def _file(target: str, own: Mapping[str, str]) -> Opener:
    path = _path(target)
    creation = Creation(
        owner=parse_owner(own["owner"]) if "owner" in own else None,
        mode=parse_mode(own["mode"]) if "mode" in own else None,
    )
    twin = own.get("twin", NO_TWIN)
    if twin not in (TWIN, NO_TWIN):
        raise ValueError(f"twin: {shown(twin)} is unknown; use {TWIN} or {NO_TWIN}")
    if twin == NO_TWIN:
        return _without_state(partial(FileSink, path, creation=creation))
    # Refuses a log that would be its own twin.
    twin_path(path)
    return _without_state(partial(TwinSink, path, creation=creation))


def _unix(target: str, _own: Mapping[str, str]) -> Opener:
    path = _path(target)
    if len(os.fsencode(path)) > _UNIX_PATH_BYTES:
        raise ValueError(f"the path is too long; a socket's has at most {_UNIX_PATH_BYTES} bytes")
    return _without_state(partial(UnixSink, path))


def _udp(target: str, _own: Mapping[str, str]) -> Opener:
    return _without_state(partial(UdpSink, *parse_endpoint(target)))


def _tcp(target: str, _own: Mapping[str, str]) -> Opener:
    return _without_state(partial(TcpSink, *parse_endpoint(target)))


def _path(target: str) -> str:
    if not target:
        raise ValueError("the path is missing; write it after the colon")
    if "\0" in target:
        raise ValueError("the path holds a NUL; no file has such a name")
    return target


_KINDS = {
    StdoutSink.scheme: _Kind("stdout", _stdout),
    FileSink.scheme: _Kind("file:PATH", _file, has_path=True, own=_FILE_SETTINGS),
    UnixSink.scheme: _Kind("unix:PATH", _unix, has_path=True),
    UdpSink.scheme: _Kind("udp:HOST:PORT", _udp),
    TcpSink.scheme: _Kind("tcp:HOST:PORT", _tcp),
    "tls": _Kind("tls:HOST:PORT", read_tls, own=TLS_SETTINGS),
    "relp": _Kind("relp:HOST:PORT", read_relp, own=RELP_SETTINGS),
    "http": _Kind("http://HOST/PATH", partial(read_http, "http"), own=HTTP_SETTINGS),
    "https": _Kind("https://HOST/PATH", partial(read_http, "https"), own=HTTPS_SETTINGS),
}
