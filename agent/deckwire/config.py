"""From the configuration file and the options of the command line to checked settings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deckwire.deckies import Registry, parse_option
from deckwire.errors import UsageError, plain, shown
from deckwire.limits import CONFIG_FILE_BYTES
from deckwire.options import CHECKSUMS, COMPATIBILITIES, FORMATS, OPTIONS, XDP_MODES
from deckwire.output.sinks.spec import from_folder, parse_output
from deckwire.output.syslog import APP_NAME, SD_ID, check_app_name, check_sd_id

SECONDS_LIMIT = 31_536_000
"""A year: anything longer is a typing error."""
RATE_LIMIT = 10_000_000
"""Largest budget, a second."""
KEY_LENGTH = 60
"""Characters of an unknown key that a message repeats."""
INTERFACE_BYTES = 15
"""IFNAMSIZ without the NUL that ends it."""
NOT_IN_INTERFACES = frozenset(b"/:\0 \t\n\v\f\r\xa0")
"""What the kernel's dev_valid_name() refuses: slash, colon and what it takes for white space."""
NETNS_BYTES = 255
"""Longest file name, because a named network namespace is a file in /run/netns."""


class ConfigError(UsageError):
    """A setting that cannot be used; one line: where, which key, what is wrong, what to use."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Rates beyond which the kernel side emits no samples; what it leaves out is counted."""

    syn_records_per_second: int = 1_000
    syn_burst: int = 2_000
    handshakes_per_second_per_source: int = 5_000


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of `run` and `replay`, checked. Times are in seconds."""

    interfaces: tuple[str, ...] = ()
    xdp: str = "off"
    """How to note SYN packets before TC: one of XDP_MODES."""
    netns: str | None = None
    """Name of the network namespace that has the interfaces; None for the agent's own."""
    wait_interface: bool = False
    """Wait for interfaces that do not exist yet."""
    deckies: Registry = field(default_factory=Registry)
    """Only those of ``decky`` entries, not those of the file."""
    deckies_file: str | None = None
    checksums: str = "auto"
    """Whether segments with a wrong checksum are refused: one of CHECKSUMS."""
    format: str = "syslog"
    """One of FORMATS."""
    outputs: tuple[str, ...] = ("stdout",)
    """In the form that `deckwire.output.sinks.spec.parse_output` reads."""
    sd_id: str = SD_ID
    app_name: str = APP_NAME
    compat: str | None = None
    """One of COMPATIBILITIES, or None."""
    dedup_ttl: float = 300.0
    """0 turns deduplication off."""
    stats_interval: float = 60.0
    """0: only at the end."""
    idle_timeout: float = 120.0
    raw_fingerprints: bool = False
    ja4plus: bool = True
    p0f_db: str | None = None
    """p0f.fp file that is read instead of the built-in signatures."""
    budgets: Budgets = field(default_factory=Budgets)


Values = Mapping[str, object]
"""Settings that were given, by the names of Settings or of keys."""
Check = Callable[[object, str], object]
"""Takes a raw value and the directory where relative paths start; returns the setting's value.

Raises ValueError with what is wrong and what to use.
"""


def read_config(path: str | os.PathLike[str]) -> Values:
    """Read a TOML configuration file: checked values by the names of Settings.

    Relative paths in it start at the file's own directory. ConfigError if it cannot be read, or if
    anything in it is wrong.
    """
    name = os.fspath(path)
    where = plain(name)
    try:
        with open(name, "rb") as file:
            content = file.read(CONFIG_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or 'cannot be read'}") from error
    if len(content) > CONFIG_FILE_BYTES:
        raise ConfigError(f"{where}: larger than {CONFIG_FILE_BYTES} bytes; shorten it")
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}: line {line}: not UTF-8; save the file as UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: nested too deeply; write keys and values") from error
    except ValueError as error:
        # tomllib's text has line and column, that of int() with 5,000 digits has not.
        raise ConfigError(f"{where}: not TOML: {plain(str(error))}") from error
    base = os.path.dirname(name)
    return _checked(table, base, lambda key: f"{where}: {key}")


def merge(file_values: Values, option_values: Values) -> Settings:
    """Put the options of the command line over what `read_config` returned.

    Options have the keys of the file; None and an empty tuple are options that were not given. An
    option replaces the file's value, and a list as a whole. ConfigError for a wrong option.
    """
    given = {key: value for key, value in option_values.items() if value not in (None, ())}
    options = _checked(given, "", lambda key: "--" + key.replace("_", "-"))
    return Settings(**{**file_values, **options})  # type: ignore[arg-type]


# --- the checks ---


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
                f"{shown(name)} is no interface name; use 1 to {INTERFACE_BYTES} bytes "
                "without slash, colon or space"
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
        raise ValueError(
            f"{shown(name)} is no name of a network namespace; use one of `ip netns list`"
        )
    return name


def _deckies(value: object, _base: str) -> Registry:
    return Registry(parse_option(text) for text in _texts(value))


def _outputs(value: object, base: str) -> tuple[str, ...]:
    outputs = []
    for text in _texts(value):
        parse_output(text)
        whole = from_folder(text, base)
        # A path that is short enough by itself may be too long after the file's directory.
        parse_output(whole)
        outputs.append(whole)
    if not outputs:
        raise ValueError("the list is empty; use stdout or another output")
    return tuple(outputs)


def _path(value: object, base: str) -> str:
    path = _text(value)
    if not path or "\0" in path:
        raise ValueError(f"{shown(path)} is no path; name a file")
    return os.path.join(base, path)


def _sd_id(value: object, _base: str) -> str:
    return check_sd_id(_text(value))


def _app_name(value: object, _base: str) -> str:
    return check_app_name(_text(value))


def _one_of(allowed: tuple[str, ...]) -> Check:
    def check(value: object, _base: str) -> str:
        if value not in allowed:
            raise ValueError(f"{shown(value)} is unknown; use {' or '.join(allowed)}")
        return _text(value)

    return check


def _seconds(least: float) -> Check:
    def check(value: object, _base: str) -> float:
        allowed = f"use seconds from {least} to {SECONDS_LIMIT}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is no number; {allowed}")
        # NaN is not within any bounds either.
        if not least <= value <= SECONDS_LIMIT:
            raise ValueError(f"{shown(value)} is out of range; {allowed}")
        return float(value)

    return check


def _flag(value: object, _base: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither; use true or false")
    return value


def _budgets(value: object, _base: str) -> Budgets:
    names = tuple(Budgets.__dataclass_fields__)
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no table; use one with {', '.join(names)}")
    for key, number in value.items():
        if key not in names:
            raise ValueError(f"unknown key {shown(key)}; use {', '.join(names)}")
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole and 1 <= number <= RATE_LIMIT):
            raise ValueError(
                f"{key}: {shown(number)} is out of range; use whole numbers from 1 to {RATE_LIMIT}"
            )
    return Budgets(**value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text; use a string")
    return value


def _texts(value: object) -> tuple[str, ...]:
    """One text or a list of them, each given once."""
    texts = [_text(v) for v in value] if isinstance(value, list | tuple) else [_text(value)]
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise ValueError(f"{shown(text)} is given twice; give it once")
        seen.add(text)
    return tuple(texts)


_CHECKS: dict[str, Check] = {
    "interface": _interfaces,
    "netns": _netns,
    "wait_interface": _flag,
    "xdp": _one_of(XDP_MODES),
    "checksums": _one_of(CHECKSUMS),
    "decky": _deckies,
    "deckies": _path,
    "output": _outputs,
    "format": _one_of(FORMATS),
    "app_name": _app_name,
    "sd_id": _sd_id,
    "dedup_ttl": _seconds(0),
    "stats_interval": _seconds(0),
    "idle_timeout": _seconds(1),
    "raw_fingerprints": _flag,
    "ja4plus": _flag,
    "compat": _one_of(COMPATIBILITIES),
    "p0f_db": _path,
    "budgets": _budgets,
}
"""The check of each key in deckwire.options; a test holds that no key lacks one."""
_SETTINGS = {option.key: option.setting for option in OPTIONS}


def _checked(raw: Values, base: str, name_of: Callable[[str], str]) -> dict[str, object]:
    """The raw values checked, by the names of Settings; `name_of` is what messages call a key."""
    values: dict[str, object] = {}
    for key, value in raw.items():
        if key not in _SETTINGS:
            where = name_of(plain(key[:KEY_LENGTH]))
            raise ConfigError(f"{where}: unknown key; use {', '.join(_SETTINGS)}")
        try:
            values[_SETTINGS[key]] = _CHECKS[key](value, base)
        except ValueError as error:
            raise ConfigError(f"{name_of(key)}: {error}") from error
    return values
