"""The format of p0f v3 signature files (p0f README, section 5), and the values parsed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TypeVar

from deckwire.fingerprints.p0f import OPTION_NAMES, QUIRKS, Direction
from deckwire.tcp import options as tcp_options

TOOL = "!"
"""The class of labels that name a program instead of a system."""

_KINDS = {name: kind for kind, name in OPTION_NAMES.items()}
_IPV4_ONLY = QUIRKS["df"] | QUIRKS["id+"] | QUIRKS["id-"] | QUIRKS["0+"]
_IPV6_ONLY = QUIRKS["flow"]
_MAX_MULTIPLE = 1000

_Value = TypeVar("_Value")


class SignatureError(ValueError):
    """A signature file that cannot be used; the text is ``PATH:LINE: REASON``."""


@dataclass(frozen=True, slots=True)
class Label:
    """The system or tool that a group of signatures stands for, ``type:class:name:flavor``."""

    generic: bool
    """The signatures are used only if no specific signature matches."""
    os_class: str
    """One of the classes of the file, or TOOL."""
    name: str
    flavor: str

    @property
    def is_tool(self) -> bool:
        """Return whether the label names a program, which may run on any system."""
        return self.os_class == TOOL

    def __str__(self) -> str:
        return f"{self.name} {self.flavor}" if self.flavor else self.name


@dataclass(frozen=True, slots=True)
class Signature:
    """A ``sig`` line. None in a field stands for the wildcard ``*``."""

    label: Label
    direction: Direction
    line: int
    """Line number in the file; of two signatures that match equally well the earlier one wins."""
    ver: int | None
    ttl: int
    ttl_is_maximum: bool
    """Written ``N-``: the sender uses a TTL of its own choice, at most N."""
    olen: int
    mss: int | None
    window: tuple[str, int] | None
    """``("value", N)``, ``("mss", N)``, ``("mtu", N)`` or ``("%", N)``."""
    scale: int | None
    layout: tuple[int, ...]
    padding: int
    quirks: int
    payload: bool | None


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """The parts of a signature file that are used."""

    signatures: tuple[Signature, ...]
    links: dict[int, str]
    """MTU to kind of link."""


def load(path: Path | str) -> SignatureFile:
    """Read a signature file; raises SignatureError, and OSError if the file cannot be read."""
    return parse(Path(path).read_bytes(), str(path))


def load_own() -> SignatureFile:
    """Return the signatures that Deckwire includes."""
    own = resources.files("deckwire").joinpath("data/signatures.fp")
    return parse(own.read_bytes(), "deckwire/data/signatures.fp")


def parse(content: bytes, path: str) -> SignatureFile:
    """Parse the content of a file; raises SignatureError. `path` is for its messages."""
    reader = _Reader()
    for number, raw in enumerate(content.split(b"\n"), start=1):
        try:
            line = raw.decode().strip()
            if line and not line.startswith(";"):
                reader.read(line, number)
        except ValueError as error:
            is_text = not isinstance(error, UnicodeDecodeError)
            what = str(error) if is_text else "not UTF-8; save the file as UTF-8"
            raise SignatureError(f"{path}:{number}: {what}") from error
    return SignatureFile(signatures=tuple(reader.signatures), links=reader.links)


@dataclass(slots=True)
class _Reader:
    """The state while a file is read. A bad line raises ValueError without path and line."""

    signatures: list[Signature] = field(default_factory=list)
    links: dict[int, str] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    section: str = ""
    label: Label | None = None
    link: str | None = None
    needs_sys: bool = False

    def read(self, line: str, number: int) -> None:
        if line.startswith("["):
            self._open_section(line)
            return
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise ValueError(f"expected 'name = value', not {line!r}")
        if key == "classes":
            self.classes = frozenset(_words(value))
        elif key == "ua_os" or self._skipped:
            # ua_os and the sections of other protocols do not concern SYN packets.
            pass
        elif not self.section:
            raise ValueError(f"{key!r} before the first section")
        elif self.section == "mtu":
            self._read_link(key, value)
        else:
            self._read_tcp(key, value, number)

    @property
    def _skipped(self) -> bool:
        return bool(self.section) and self.section != "mtu" and not self.section.startswith("tcp:")

    def _open_section(self, line: str) -> None:
        if not line.endswith("]"):
            raise ValueError(f"section {line!r} is not closed")
        self.section = line[1:-1].strip()
        if self.section.startswith("tcp:"):
            Direction(_one_of(self.section[4:], [d.value for d in Direction], "TCP section"))
        self.label, self.link, self.needs_sys = None, None, False

    def _read_link(self, key: str, value: str) -> None:
        if key == "label":
            self.link = _filled(value, "label")
        elif key == "sig":
            if self.link is None:
                raise ValueError("sig without a label")
            self.links.setdefault(_number(value, 1, 65535, "MTU"), self.link)
        else:
            raise ValueError(f"unknown name {key!r} in section 'mtu'")

    def _read_tcp(self, key: str, value: str, number: int) -> None:
        if key == "label":
            self.label = _parse_label(value, self.classes)
            self.needs_sys = self.label.is_tool
        elif key == "sys":
            self._read_sys(value)
        elif key == "sig":
            if self.label is None:
                raise ValueError("sig without a label")
            if self.needs_sys:
                raise ValueError(f"the tool {str(self.label)!r} needs a sys line before its sig")
            direction = Direction(self.section[4:])
            self.signatures.append(parse_signature(value, self.label, direction, number))
        else:
            raise ValueError(f"unknown name {key!r} in section {self.section!r}")

    def _read_sys(self, value: str) -> None:
        if self.label is None or not self.label.is_tool:
            raise ValueError("sys is allowed only after the label of a tool (class !)")
        for word in _words(value):
            if word.startswith("@") and word[1:] not in self.classes:
                raise ValueError(f"class {word[1:]!r} is not in 'classes'")
        self.needs_sys = False


def parse_signature(text: str, label: Label, direction: Direction, line: int) -> Signature:
    """Parse one signature, ``ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass``.

    Raises ValueError with the name of the wrong field.
    """
    fields = text.split(":")
    if len(fields) != 8:
        raise ValueError(f"a signature has 8 fields, this one {len(fields)}")
    ver_text, ttl_text, olen, mss, window_scale, layout_text, quirks_text, payload = fields
    ver = _wildcard(ver_text, lambda v: int(_one_of(v, ["4", "6"], "IP version")))
    ttl, ttl_is_maximum = _parse_ttl(ttl_text)
    window, comma, scale = window_scale.partition(",")
    if not comma:
        raise ValueError(f"window and scale are joined with a comma, not {window_scale!r}")
    layout, padding = _parse_layout(layout_text)
    return Signature(
        label=label,
        direction=direction,
        line=line,
        ver=ver,
        ttl=ttl,
        ttl_is_maximum=ttl_is_maximum,
        olen=_number(olen, 0, 255, "IP option length"),
        mss=_wildcard(mss, lambda v: _number(v, 0, 65535, "MSS")),
        window=_wildcard(window, _parse_window),
        scale=_wildcard(scale, lambda v: _number(v, 0, 255, "window scale")),
        layout=layout,
        padding=padding,
        quirks=_parse_quirks(quirks_text, ver),
        payload=_wildcard(payload, lambda v: _one_of(v, ["0", "+"], "payload class") == "+"),
    )


def _parse_label(value: str, classes: frozenset[str]) -> Label:
    # Colons after the third belong to the flavor.
    parts = value.split(":", 3)
    if len(parts) != 4:
        raise ValueError(f"a label is 'type:class:name:flavor', not {value!r}")
    kind, os_class, name, flavor = parts
    if os_class != TOOL and os_class not in classes:
        raise ValueError(f"class {os_class!r} is not in 'classes'")
    generic = _one_of(kind, ["s", "g"], "label type") == "g"
    return Label(generic, os_class, _filled(name.strip(), "name of a label"), flavor.strip())


def _parse_ttl(text: str) -> tuple[int, bool]:
    # A user may paste "61+3" from a raw signature: the initial TTL is the sum.
    seen, plus, hops = text.partition("+")
    if plus:
        total = _number(seen, 1, 255, "TTL") + _number(hops, 0, 254, "distance")
        return _number(str(total), 1, 255, "initial TTL"), False
    return _number(text.removesuffix("-"), 1, 255, "initial TTL"), text.endswith("-")


def _parse_window(text: str) -> tuple[str, int]:
    if text.startswith("%"):
        return "%", _number(text[1:], 2, 65535, "window divisor")
    unit, star, factor = text.partition("*")
    if star:
        return _one_of(unit, ["mss", "mtu"], "window unit"), _number(
            factor, 1, _MAX_MULTIPLE, "window factor"
        )
    return "value", _number(text, 0, 65535, "window")


def _parse_layout(text: str) -> tuple[tuple[int, ...], int]:
    layout: list[int] = []
    padding = 0
    for name in text.split(",") if text else []:
        if tcp_options.EOL in layout:
            raise ValueError("eol must be the last option")
        if name.startswith("eol+"):
            padding = _number(name[4:], 0, 39, "padding")
            layout.append(tcp_options.EOL)
        elif name.startswith("?"):
            layout.append(_number(name[1:], 0, 255, "option kind"))
        elif name in _KINDS:
            layout.append(_KINDS[name])
        else:
            raise ValueError(f"unknown option {name!r}")
    return tuple(layout), padding


def _parse_quirks(text: str, ver: int | None) -> int:
    quirks = 0
    for name in text.split(",") if text else []:
        if name not in QUIRKS:
            raise ValueError(f"unknown quirk {name!r}")
        quirks |= QUIRKS[name]
    impossible = {4: _IPV6_ONLY, 6: _IPV4_ONLY}.get(ver or 0, 0)
    if quirks & impossible:
        raise ValueError(f"a quirk of the other IP version in a signature of version {ver}")
    return quirks


def _wildcard(text: str, read: Callable[[str], _Value]) -> _Value | None:
    return None if text == "*" else read(text)


def _number(text: str, low: int, high: int, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise ValueError(f"{what} is a number from {low} to {high}, not {text!r}")
    return int(text)


def _one_of(text: str, allowed: Iterable[str], what: str) -> str:
    if text not in allowed:
        raise ValueError(f"{what} is one of {' '.join(allowed)}, not {text!r}")
    return text


def _filled(text: str, what: str) -> str:
    if not text:
        raise ValueError(f"{what} is empty")
    return text


def _words(value: str) -> list[str]:
    words = [word.strip() for word in value.split(",")]
    if not all(words):
        raise ValueError(f"empty entry in {value!r}")
    return words
