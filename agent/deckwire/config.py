"""From the configuration file and the options of the command line to checked settings."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from deckwire.bus.address import BUS_OF_DECNET
from deckwire.deckies import Registry, parse_option
from deckwire.errors import UsageError, plain, shown
from deckwire.events.identity import check_sensor
from deckwire.events.ignore import IgnoreRule, read_rules
from deckwire.kernel.user import User
from deckwire.limits import (
    CONFIG_FILE_BYTES,
    DEDUP_ENTRIES,
    DEDUP_KEYS,
    RING_BYTES,
    RING_BYTES_MAX,
    RING_BYTES_MIN,
    SCAN_TARGETS,
)
from deckwire.options import (
    CHECKSUMS,
    COMPATIBILITIES,
    DIRECTIONS,
    FORMATS,
    HEADS,
    LATERAL,
    OPTIONS,
    OUTBOUND_SOURCES,
    OWN_HOST,
    PROFILE_NAMES,
    REDACT,
    XDP_MODES,
)
from deckwire.output.outputs import OutputSettings, need_distinct, read_outputs
from deckwire.output.syslog import (
    APP_NAME,
    PROCID,
    SD_ID,
    check_app_name,
    check_procid,
    check_sd_id,
)
from deckwire.profiles import PROFILES, Profile

SECONDS_LIMIT = 31_536_000
"""A year: anything longer is a typing error."""
RATE_LIMIT = 10_000_000
"""Largest value of a budget."""
KEY_LENGTH = 60
"""Characters of an unknown key that a message repeats."""
INTERFACE_BYTES = 15
"""IFNAMSIZ without the NUL that ends it."""
NOT_IN_INTERFACES = frozenset(b"/:\0 \t\n\v\f\r\xa0")
"""What the kernel's dev_valid_name() refuses: slash, colon and what it takes for white space."""
UNIX_PATH_BYTES = 107
"""sockaddr_un.sun_path without its NUL, unix(7)."""
NETNS_BYTES = 255
"""Longest file name, because a named network namespace is a file in /run/netns."""


class ConfigError(UsageError):
    """A setting that cannot be used; one line: where, which key, what is wrong, what to use."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Rates beyond which the kernel side submits no samples; it counts those that it leaves out."""

    syn_records_per_second: int = 1_000
    syn_burst: int = 2_000
    handshakes_per_second_per_source: int = 5_000
    midstream_records_per_second: int = 500
    """Samples of connections whose handshake was not seen."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of `run` and `replay`, checked. Times are in seconds."""

    profile: str | None = None
    """One of PROFILE_NAMES, whose rows are already among the other settings; or None."""
    interfaces: tuple[str, ...] = ()
    found_interface: bool = False
    """DECNET's state or environment named the interface, at the start."""
    xdp: str = "off"
    """How to note SYN packets before TC: one of XDP_MODES."""
    netns: str | None = None
    """Name of the network namespace that has the interfaces; None for the agent's own."""
    wait_interface: bool = False
    """Wait for interfaces that do not exist yet."""
    ring_kb: int = RING_BYTES // 1024
    """Wanted size of each CPU's ring: kernel.rings.ring_bytes() bounds it."""
    deckies: Registry = field(default_factory=Registry)
    """Only those of ``decky`` entries, not those of the file."""
    deckies_file: str | None = None
    checksums: str = "auto"
    """Whether segments with a wrong checksum are refused: one of CHECKSUMS."""
    decnet_state: bool = False
    """The deckies file is DECNET's state, and belongs to another program."""
    own_host: str = "report"
    """One of OWN_HOST."""
    format: str = "syslog"
    """One of FORMATS, for outputs that set none of their own."""
    outputs: tuple[OutputSettings, ...] = (OutputSettings("stdout"),)
    bus: str | None = None
    """Path of the bus's socket, or BUS_OF_DECNET; None for no bus."""
    outbound_source: str = "decky"
    """One of OUTBOUND_SOURCES."""
    lateral: str = "emit"
    """One of LATERAL."""
    sensor: str | None = None
    """The agent's name in every event; None: the host's name."""
    sd_id: str = SD_ID
    app_name: str = APP_NAME
    procid: str = PROCID
    compat: str | None = None
    """One of COMPATIBILITIES, or None."""
    dedup_ttl: float = 300.0
    """0 turns deduplication off."""
    dedup_keys: int = DEDUP_KEYS
    """Distinct keys of a source and event in one window; 0 sets no bound."""
    stats_interval: float = 60.0
    """0: only at the end."""
    idle_timeout: float = 120.0
    raw_fingerprints: bool = False
    sequences: bool = False
    """Classify the IP identifications and initial sequence numbers of each source."""
    heads: tuple[str, ...] = HEADS
    """Protocols whose first bytes are read: of HEADS."""
    redact: tuple[str, ...] = REDACT
    """Directions of the connections in whose events credentials are replaced: of DIRECTIONS."""
    redact_key: str | None = None
    """File of the key for what replaces them; None: it is in the state directory."""
    ja4plus: bool = True
    p0f_db: str | None = None
    """p0f.fp file that is read instead of the built-in signatures."""
    scan_targets: int = 5
    """Targets of a source that make a scan which is reported at once; 0: no scan is reported."""
    scan_idle: float = 900.0
    """A scan ends when its source is silent for so long."""
    ignore: tuple[IgnoreRule, ...] = ()
    """What is no attack."""
    budgets: Budgets = field(default_factory=Budgets)
    state_dir: str | None = field(default_factory=lambda: _from_systemd("STATE_DIRECTORY"))
    """What survives restarts is kept there; None: nothing is."""
    runtime_dir: str | None = field(default_factory=lambda: _from_systemd("RUNTIME_DIRECTORY"))
    """The status is written there; None: it is not written."""
    metrics: str | None = None
    """Path of the Prometheus file, or None."""
    user: User | None = None
    """Whom the agent becomes after its start; None: it stays who started it."""


Values = Mapping[str, object]
"""Settings that were given, by the names of Settings or of keys."""
Check = Callable[[object, str], object]
"""Takes a raw value and the directory where relative paths start; returns the setting's value.

Raises ValueError with what is wrong and what to use.
"""


def _from_systemd(name: str) -> str | None:
    """The first directory that the unit asks for with StateDirectory= or RuntimeDirectory=."""
    return os.environ.get(name, "").partition(":")[0] or None


def read_config(path: str | os.PathLike[str]) -> Values:
    """Read a TOML configuration file: checked values by the names of Settings.

    Relative paths in it start at the file's own directory. ConfigError if it cannot be read, or if
    anything in it is wrong.
    """
    values, faults = read_all(path)
    if faults:
        raise ConfigError(faults[0])
    return values


def read_all(path: str | os.PathLike[str]) -> tuple[Values, list[str]]:
    """The values that are right, as `read_config` gives them, and one line for each fault.

    ConfigError if the file cannot be read as a whole.
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
    return _sorted_out(table, base, lambda key: f"{where}: {key}")


def lacking(settings: Settings) -> list[str]:
    """One line for each thing without which there is nothing to watch."""
    lines = []
    if not settings.interfaces and not settings.decnet_state:
        lines.append("no interface: nothing to watch; name a MACVLAN or its parent with -i")
    if not len(settings.deckies) and settings.deckies_file is None:
        lines.append(
            "no decky: nothing to watch; name deckies with --decky ADDR[=NAME] or --deckies FILE"
        )
    return lines


def merge(file_values: Values, option_values: Values) -> Settings:
    """Put the options of the command line over what `read_config` returned.

    Options have the keys of the file; None and an empty tuple are options that were not given. An
    option replaces the file's value, and a list as a whole. Both replace what a profile sets.
    ConfigError for a wrong option.
    """
    given = {key: value for key, value in option_values.items() if value not in (None, ())}
    options = _checked(given, "", lambda key: "--" + key.replace("_", "-"))
    values = {**file_values, **options}
    name = values.get("profile")
    if not isinstance(name, str):
        return Settings(**values)  # type: ignore[arg-type]
    profile = PROFILES[name]
    rows = _checked(
        {row.key: row.value for row in profile.rows}, "", lambda key: f"profile {name}: {key}"
    )
    settings = Settings(**{**rows, **values})  # type: ignore[arg-type]
    try:
        outputs = tuple(_with_profile(output, profile) for output in settings.outputs)
        need_distinct(outputs)
    except ValueError as error:
        raise ConfigError(f"profile {name}: {error}") from error
    return replace(settings, outputs=outputs)


def _with_profile(output: OutputSettings, profile: Profile) -> OutputSettings:
    """The output with the profile's settings, if it is a file of the profile's consumer."""
    path = output.path
    if path is None or not fnmatchcase(os.path.basename(path), profile.files):
        return output
    # The same path, so that no setting fails that needs it.
    (settings,) = read_outputs([{"to": output.to, **profile.file_settings}], "")
    return output.or_else(settings)


# --- the checks ---


def check_interfaces(value: object, _base: str = "") -> tuple[str, ...]:
    """The names of interfaces; ValueError for one that the kernel would refuse."""
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


def _outputs(value: object, base: str) -> tuple[OutputSettings, ...]:
    return read_outputs(value if isinstance(value, list | tuple) else [value], base)


def _path(value: object, base: str) -> str:
    path = _text(value)
    if not path or "\0" in path:
        raise ValueError(f"{shown(path)} is no path; name a file")
    return os.path.join(base, path)


def _prom(value: object, base: str) -> str:
    path = _path(value, base)
    if not path.endswith(".prom"):
        raise ValueError(f"{shown(value)}: the collector reads only FILE.prom; name it so")
    return path


def _bus(value: object, base: str) -> str:
    path = _text(value)
    if path == BUS_OF_DECNET:
        return path
    path = _path(path, base)
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        raise ValueError(f"the path is too long; a socket's has at most {UNIX_PATH_BYTES} bytes")
    return path


def _sd_id(value: object, _base: str) -> str:
    return check_sd_id(_text(value))


def _app_name(value: object, _base: str) -> str:
    return check_app_name(_text(value))


def _procid(value: object, _base: str) -> str:
    return check_procid(_text(value))


def _sensor(value: object, _base: str) -> str:
    return check_sensor(_text(value))


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


def _count(most: int, *, least: int = 0) -> Check:
    def check(value: object, _base: str) -> int:
        allowed = f"use a whole number from {least} to {most}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{shown(value)} is no whole number; {allowed}")
        if not least <= value <= most:
            raise ValueError(f"{shown(value)} is out of range; {allowed}")
        return value

    return check


def _flag(value: object, _base: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither; use true or false")
    return value


def _user(value: object, _base: str) -> User:
    return User.named(_text(value))


def _ignore(value: object, _base: str) -> tuple[IgnoreRule, ...]:
    return read_rules(value)


def _budgets(value: object, _base: str) -> Budgets:
    names = tuple(Budgets.__dataclass_fields__)
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no table; use one with {', '.join(names)}")
    for key, number in value.items():
        if key not in names:
            raise ValueError(f"unknown key {shown(key)}; use {', '.join(names)}")
        try:
            _count(RATE_LIMIT, least=1)(number, "")
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
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


def _some_of(allowed: tuple[str, ...]) -> Check:
    def check(value: object, _base: str) -> tuple[str, ...]:
        found = _texts(value)
        for one in found:
            if one not in allowed:
                raise ValueError(
                    f"{shown(one)} is unknown; use {', '.join(allowed)}, or an empty list"
                )
        return found

    return check


_CHECKS: dict[str, Check] = {
    "profile": _one_of(PROFILE_NAMES),
    "interface": check_interfaces,
    "netns": _netns,
    "wait_interface": _flag,
    "xdp": _one_of(XDP_MODES),
    "ring_kb": _count(RING_BYTES_MAX // 1024, least=RING_BYTES_MIN // 1024),
    "checksums": _one_of(CHECKSUMS),
    "decky": _deckies,
    "deckies": _path,
    "decnet_state": _flag,
    "own_host": _one_of(OWN_HOST),
    "bus": _bus,
    "outbound_source": _one_of(OUTBOUND_SOURCES),
    "lateral": _one_of(LATERAL),
    "output": _outputs,
    "format": _one_of(FORMATS),
    "app_name": _app_name,
    "sd_id": _sd_id,
    "procid": _procid,
    "sensor": _sensor,
    "dedup_ttl": _seconds(0),
    "dedup_keys": _count(DEDUP_ENTRIES),
    "stats_interval": _seconds(0),
    "idle_timeout": _seconds(1),
    "raw_fingerprints": _flag,
    "sequences": _flag,
    "heads": _some_of(HEADS),
    "redact": _some_of(DIRECTIONS),
    "redact_key": _path,
    "ja4plus": _flag,
    "compat": _one_of(COMPATIBILITIES),
    "p0f_db": _path,
    "scan_targets": _count(SCAN_TARGETS),
    "scan_idle": _seconds(1),
    "ignore": _ignore,
    "budgets": _budgets,
    "state_dir": _path,
    "runtime_dir": _path,
    "metrics": _prom,
    "user": _user,
}
"""The check of each key in deckwire.options; a test holds that no key lacks one."""
_SETTINGS = {option.key: option.setting for option in OPTIONS}


def _checked(raw: Values, base: str, name_of: Callable[[str], str]) -> dict[str, object]:
    """The raw values checked, by the names of Settings; `name_of` is what messages call a key."""
    values, faults = _sorted_out(raw, base, name_of)
    if faults:
        raise ConfigError(faults[0])
    return values


def _sorted_out(
    raw: Values, base: str, name_of: Callable[[str], str]
) -> tuple[dict[str, object], list[str]]:
    """The values that are right, as `_checked` gives them, and one line for each fault."""
    values: dict[str, object] = {}
    faults = []
    for key, value in raw.items():
        if key not in _SETTINGS:
            where = name_of(plain(key[:KEY_LENGTH]))
            faults.append(f"{where}: unknown key; use {', '.join(_SETTINGS)}")
            continue
        check = _CHECKS[key]
        found: list[str] = []
        for part in (*_parts(key, value), value):
            if part is value and found:
                break  # its parts have said it
            try:
                values[_SETTINGS[key]] = check(part, base)
            except ValueError as error:
                found.append(f"{name_of(key)}: {error}")
        if found:
            values.pop(_SETTINGS[key], None)
        faults += found
    return values, faults


def _parts(key: str, value: object) -> list[object]:
    """The entries of a list or of the budgets, each by itself: each one's fault is to be found."""
    if key == "budgets" and isinstance(value, dict):
        return [{name: number} for name, number in value.items()]
    if not isinstance(value, list) or len(value) < 2:
        return []
    return [[entry] for entry in value]
