"""What an operator can set: the configuration file, the options above it, and their bounds."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deckwire.deckies import Registry, parse_option
from deckwire.errors import UsageError, plain, shown
from deckwire.limits import CONFIG_FILE_BYTES
from deckwire.output.sinks.spec import parse_output
from deckwire.output.syslog import APP_NAME, SD_ID

FORMATS = ("syslog", "json")
XDP_MODES = ("off", "generic", "native")
COMPATIBILITIES = ("decnet",)
PATH_OUTPUTS = ("file", "unix")
"""Outputs named by a path, which may be relative."""
SECONDS_LIMIT = 31_536_000
"""A year: what lasts longer is a slip of the pen."""
RATE_LIMIT = 10_000_000
KEY_LENGTH = 60
"""Characters of an unknown key that a message repeats."""
INTERFACE_BYTES = 15
"""IFNAMSIZ less the NUL that ends it."""
NOT_IN_INTERFACES = frozenset(b"/:\0 \t\n\v\f\r\xa0")
"""What the kernel's dev_valid_name() refuses: slash, colon and its idea of white space."""
NETNS_BYTES = 255
"""Longest file name: a named network namespace is a file in /run/netns."""
SD_ID_FORM = re.compile(r"(?=.{3,32}\Z)[!#-<>-?A-\\^-~]+@[0-9]+(\.[0-9]+)*")
"""RFC 5424, 6.3.2: a name without ``=``, ``]``, ``"`` and space, then an enterprise number."""
APP_NAME_FORM = re.compile(r"[!-~]{1,48}")
"""RFC 5424, 6.2.5."""


class ConfigError(UsageError):
    """A setting that cannot be used; one line: where, which key, what, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What the kernel side lets through; what it cuts is counted."""

    syn_records_per_second: int = 1_000
    syn_burst: int = 2_000
    handshakes_per_second_per_source: int = 5_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `run` and `replay` are told, checked; times are in seconds."""

    interfaces: tuple[str, ...] = ()
    xdp: str = "off"
    """Note SYNs before TC: off, generic or native."""
    netns: str | None = None
    """Name of the network namespace that has the interfaces; None for the agent's own."""
    wait_interface: bool = False
    """Wait for interfaces that do not exist yet."""
    deckies: Registry = field(default_factory=Registry)
    """Those of ``decky`` entries alone."""
    deckies_file: str | None = None
    format: str = "syslog"
    outputs: tuple[str, ...] = ("stdout",)
    """As `deckwire.sinks.spec.parse_output` reads them."""
    sd_id: str = SD_ID
    app_name: str = APP_NAME
    compat: str | None = None
    dedup_ttl: float = 300.0
    """0 turns deduplication off."""
    stats_interval: float = 60.0
    """0 leaves the statistics at the end alone."""
    idle_timeout: float = 120.0
    raw_fingerprints: bool = False
    ja4plus: bool = True
    p0f_db: str | None = None
    """p0f.fp file read beside the built-in signatures."""
    budgets: Budgets = field(default_factory=Budgets)


Values = Mapping[str, object]
Check = Callable[[object, str], object]
"""Takes a setting's raw value and the directory where relative paths start."""


def read_config(path: str | os.PathLike[str]) -> Values:
    """The checked values of a TOML configuration file, by the names of Settings.

    Relative paths in it start at the file's own directory. ConfigError if it cannot be read
    or anything in it is wrong.
    """
    name = os.fspath(path)
    where = plain(name)
    try:
        with open(name, "rb") as file:
            content = file.read(CONFIG_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or 'cannot be read'}") from error
    if len(content) > CONFIG_FILE_BYTES:
        raise ConfigError(f"{where}: larger than {CONFIG_FILE_BYTES} bytes")
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}: line {line}: not UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply") from error
    except ValueError as error:
        # tomllib tells line and column; int() of 5,000 digits and the like do not.
        raise ConfigError(f"{where}: not TOML: {plain(str(error))}") from error
    base = os.path.dirname(name)
    return _checked(table, base, lambda key: f"{where}: {key}")


def merge(file_values: Values, option_values: Values) -> Settings:
    """The settings of a file that `read_config` read, with command-line options above it.

    Options have the keys of the file; None or an empty tuple is an option not given. One that
    is given replaces the file's value, lists as a whole. ConfigError for a wrong option.
    """
    given = {key: value for key, value in option_values.items() if value not in (None, ())}
    options = _checked(given, "", lambda key: "--" + key.replace("_", "-"))
    return Settings(**{**file_values, **options})  # type: ignore[arg-type]


# --- checks: each returns the value of a setting, or raises ValueError("what, what is allowed") --


def _interfaces(value: object, _base: str) -> tuple[str, ...]:
    names = _texts(value)
    for name in names:
        raw = name.encode("utf-8", "surrogateescape")
        if (
            not 0 < len(raw) <= INTERFACE_BYTES
            or name in (".", "..")
            or not NOT_IN_INTERFACES.isdisjoint(raw)
        ):
            raise ValueError(
                f"{shown(name)} is no interface name, 1 to {INTERFACE_BYTES} bytes "
                "without slash, colon or space are allowed"
            )
    return names


def _netns(value: object, _base: str) -> str:
    name = _text(value)
    if (
        name in ("", ".", "..")
        or "/" in name
        or "\0" in name
        or len(os.fsencode(name)) > NETNS_BYTES
    ):
        raise ValueError(f"{shown(name)} is no name of a network namespace (see ip netns list)")
    return name


def _deckies(value: object, _base: str) -> Registry:
    return Registry(parse_option(text) for text in _texts(value))


def _outputs(value: object, base: str) -> tuple[str, ...]:
    outputs = []
    for text in _texts(value):
        parse_output(text)
        kind, _, target = text.partition(":")
        if kind in PATH_OUTPUTS:
            text = f"{kind}:{_path(target, base)}"  # noqa: PLW2901
            # What is short enough by itself may be too long behind the file's directory.
            parse_output(text)
        outputs.append(text)
    if not outputs:
        raise ValueError("the list is empty, stdout or another output is allowed")
    return tuple(outputs)


def _path(value: object, base: str) -> str:
    path = _text(value)
    if not path or "\0" in path:
        raise ValueError(f"{shown(path)} is no path, a path that is not empty is allowed")
    return os.path.join(base, path)


def _sd_id(value: object, _base: str) -> str:
    if not SD_ID_FORM.fullmatch(_text(value)):
        raise ValueError(
            f"{shown(value)} is no SD-ID, NAME@NUMBER in at most 32 printable ASCII characters "
            'without =, ], " or space is allowed'
        )
    return _text(value)


def _app_name(value: object, _base: str) -> str:
    if not APP_NAME_FORM.fullmatch(_text(value)):
        raise ValueError(
            f"{shown(value)} is no APP-NAME, 1 to 48 printable ASCII characters are allowed"
        )
    return _text(value)


def _one_of(allowed: tuple[str, ...]) -> Check:
    def check(value: object, _base: str) -> str:
        if value not in allowed:
            raise ValueError(f"{shown(value)}, {' or '.join(allowed)} is allowed")
        return _text(value)

    return check


def _seconds(least: float) -> Check:
    def check(value: object, _base: str) -> float:
        allowed = f"seconds from {least} to {SECONDS_LIMIT} are allowed"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is no number, {allowed}")
        # Not a number is not within any bounds either.
        if not least <= value <= SECONDS_LIMIT:
            raise ValueError(f"{shown(value)} is out of range, {allowed}")
        return float(value)

    return check


def _flag(value: object, _base: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)}, true or false is allowed")
    return value


def _budgets(value: object, _base: str) -> Budgets:
    names = tuple(Budgets.__dataclass_fields__)
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no table, {', '.join(names)} are allowed in one")
    for key, number in value.items():
        if key not in names:
            raise ValueError(f"unknown key {shown(key)}, {', '.join(names)} are allowed")
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole and 1 <= number <= RATE_LIMIT):
            raise ValueError(
                f"{key}: {shown(number)}, whole numbers from 1 to {RATE_LIMIT} are allowed"
            )
    return Budgets(**value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text, a string is allowed")
    return value


def _texts(value: object) -> tuple[str, ...]:
    """One text or a list of them, none of them twice."""
    texts = [_text(v) for v in value] if isinstance(value, list | tuple) else [_text(value)]
    met: set[str] = set()
    for text in texts:
        if text in met:
            raise ValueError(f"{shown(text)} is given twice, once is allowed")
        met.add(text)
    return tuple(texts)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file, and with hyphens one option."""

    setting: str
    """The field of Settings that it fills."""
    check: Check


KEYS = {
    "interface": Key("interfaces", _interfaces),
    "netns": Key("netns", _netns),
    "wait_interface": Key("wait_interface", _flag),
    "xdp": Key("xdp", _one_of(XDP_MODES)),
    "decky": Key("deckies", _deckies),
    "deckies": Key("deckies_file", _path),
    "format": Key("format", _one_of(FORMATS)),
    "output": Key("outputs", _outputs),
    "sd_id": Key("sd_id", _sd_id),
    "app_name": Key("app_name", _app_name),
    "compat": Key("compat", _one_of(COMPATIBILITIES)),
    "dedup_ttl": Key("dedup_ttl", _seconds(0)),
    "stats_interval": Key("stats_interval", _seconds(0)),
    "idle_timeout": Key("idle_timeout", _seconds(1)),
    "raw_fingerprints": Key("raw_fingerprints", _flag),
    "ja4plus": Key("ja4plus", _flag),
    "p0f_db": Key("p0f_db", _path),
    "budgets": Key("budgets", _budgets),
}


def _checked(raw: Values, base: str, place: Callable[[str], str]) -> dict[str, object]:
    """The raw values checked and by the names of Settings; `place` words where a key stands."""
    values: dict[str, object] = {}
    for name, value in raw.items():
        key = KEYS.get(name)
        if key is None:
            where = place(plain(name[:KEY_LENGTH]))
            raise ConfigError(f"{where}: unknown key, allowed are {', '.join(KEYS)}")
        try:
            values[key.setting] = key.check(value, base)
        except ValueError as error:
            raise ConfigError(f"{place(name)}: {error}") from error
    return values
