"""A reload: read and checked in a thread while the capture goes on, then applied as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from deckwire.config import Settings
from deckwire.deckies import DeckiesFile, Registry
from deckwire.errors import UsageError
from deckwire.options import OPTIONS
from deckwire.output.outputs import discard
from deckwire.output.sinks.fanout import Output
from deckwire.runtime.failures import failing
from deckwire.runtime.preparation import deckies_file, open_outputs
from deckwire.tables.deckies import DeckiesChange, DeckyTables

_OUTPUTS = frozenset({"outputs", "format", "sd_id", "app_name", "procid"})
_KERNEL = frozenset({"budgets", "checksums", "heads"})
_DEDUP = frozenset({"dedup_ttl", "dedup_keys"})
_DECKIES = frozenset({"deckies", "deckies_file", "decnet_state"})
_SCANS = frozenset({"ignore", "scan_targets", "scan_idle"})
LIVE = (
    _OUTPUTS
    | _KERNEL
    | _DEDUP
    | _DECKIES
    | _SCANS
    # A profile is not a setting of its own: its rows are.
    | {"idle_timeout", "stats_interval", "metrics", "profile"}
)
"""Fields of Settings that can change while the agent runs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload changes. All of it was checked."""

    file: DeckiesFile | None
    registry: Registry
    deckies: DeckiesChange
    """What the kernel's tables need for the registry."""
    settings: Settings | None = None
    """None if only the deckies file was read."""
    changed: tuple[str, ...] = ()
    """Keys of the settings that differ from those before."""
    outputs: tuple[Output, ...] | None = None
    """They are open and not started; None if they stay as they are."""

    def changes_dedup(self) -> bool:
        """Whether suppression begins anew."""
        return not _DEDUP.isdisjoint(self.changed)


class Reload:
    """Makes a plan in a thread. The capture's thread asks whether it is ready."""

    def __init__(self, make: Callable[[], Plan], *, whole: bool) -> None:
        """`whole` says whether all settings are read, or the deckies file alone."""
        self.whole = whole
        self._plan: Plan | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(make,), name="reload", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether `plan` returns at once."""
        return not self._thread.is_alive()

    def plan(self) -> Plan:
        """The plan. Raises UsageError with one line for the user, or what a bug raised."""
        self._thread.join()
        if self._plan is None:
            raise self._failure or RuntimeError("a reload ended without a result")
        return self._plan

    def _run(self, make: Callable[[], Plan]) -> None:
        try:
            self._plan = make()
        except Exception as error:
            self._failure = error


def plan_deckies(file: DeckiesFile, known: Registry, tables: DeckyTables) -> Plan:
    """Read the deckies file again; `known` are the deckies watched now.

    Raises UsageError, or DeckiesRefused.
    """
    registry = _or_known(file.read(), known)
    return Plan(file, registry, tables.prepare(registry.addresses))


def plan_settings(
    read: Callable[[], Settings],
    before: Settings,
    file: DeckiesFile | None,
    known: Registry,
    outputs: Iterable[Output],
    tables: DeckyTables,
) -> Plan:
    """Read all settings and the deckies file again.

    Args:
        read: reads the settings.
        before: the settings in force.
        file: the deckies file in use.
        known: the deckies watched now.
        outputs: those in use, in the order of the settings.
        tables: where the deckies are watched.

    Raises:
        UsageError: something is wrong, or cannot change while the agent runs.
        DeckiesRefused: the kernel refused to list its deckies.
    """
    settings = read()
    if settings.found_interface and before.found_interface:
        settings = replace(settings, interfaces=before.interfaces)
    differing = tuple(
        option
        for option in OPTIONS
        if getattr(settings, option.setting) != getattr(before, option.setting)
    )
    if fixed := [option.key for option in differing if option.setting not in LIVE]:
        raise UsageError(
            f"reload refused: {', '.join(fixed)} cannot change while the agent runs; restart it"
        )
    fields = {option.setting for option in differing}
    made, sinks = None, {}
    if not fields.isdisjoint(_OUTPUTS):
        pairs = zip(before.outputs, outputs, strict=True)
        sinks = {one.receiver: output.sink for one, output in pairs}
        with failing():
            made = open_outputs(settings, sinks)
    try:
        # Last, because the file counts as read even if the plan fails after it.
        new_file = _file_of(settings, fields, file)
        found = settings.deckies if new_file is None else new_file.read()
        registry = _or_known(found, known)
        change = tables.prepare(registry.addresses)
    except BaseException:
        discard(made or (), sinks.values())
        raise
    keys = tuple(option.key for option in differing)
    return Plan(new_file, registry, change, settings, keys, made)


def _or_known(found: Registry, known: Registry) -> Registry:
    """The same deckies; those known already, if they are equal, so that only one of both stays."""
    return known if found == known else found


def _file_of(settings: Settings, changed: set[str], file: DeckiesFile | None) -> DeckiesFile | None:
    """The deckies file; one that stays goes on, because it remembers what it read last."""
    if file is None or not changed.isdisjoint({"deckies_file", "decnet_state"}):
        return deckies_file(settings)
    return file.with_fixed(settings.deckies) if "deckies" in changed else file
