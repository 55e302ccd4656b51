"""DECNET's state file as the list of deckies: read leniently, and waited for.

The file belongs to another program, which may write a decky that cannot be watched. Such a decky
must not keep the others from being watched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from deckwire.deckies import (
    DeckiesError,
    DeckiesFile,
    EntryError,
    Registry,
    RegistryBuilder,
    json_document,
    state_deckies,
    state_entries,
)
from deckwire.errors import plain
from deckwire.limits import DECKIES_FAULTS

INTERFACE_VARIABLE = "DECNET_SNIFFER_IFACE"
INTERFACE = "decnet_macvlan0"
"""The host's own macvlan interface, as DECNET calls it."""


class State(NamedTuple):
    """What a state file holds of use here."""

    registry: Registry
    faults: tuple[str, ...]
    """One line for each decky that was left out: ``PATH:PLACE: why``."""
    interface: str | None
    """The interface that DECNET was deployed on."""


class StateFile(DeckiesFile):
    """DECNET's state file, which is read again when it changes.

    A file that is missing holds no decky. One that goes away while the agent runs counts as missing
    at the second look, because a program that replaces a file may remove it first.
    """

    interface: str | None = None
    """The interface that DECNET was deployed on, if the last `read` found one."""
    _seen_missing = False
    _was_read = False

    def changed(self) -> bool:
        """Whether the file differs from the one that the last `read` found, good or bad."""
        missing = self._facts() is None
        first_time = missing and not self._seen_missing
        self._seen_missing = missing
        return not first_time and super().changed()

    def _parsed(self) -> Registry:
        """The deckies that can be watched; `notes` are about the others.

        DeckiesError for a file that cannot be read as a whole. If it is the first read, that counts
        as a missing file, because DECNET may be writing it.
        """
        first, self._was_read = not self._was_read, True
        self.notes = ()
        try:
            try:
                text = self.content()
            except DeckiesError:
                if self._facts() is None:
                    return self._nothing("no such file")
                raise
            state = parse_state(text, self.path)
        except UnreadableStateError as error:
            if not first:
                raise
            return self._nothing(error.why)
        self.notes = state.faults
        self.interface = state.interface
        return state.registry

    def _nothing(self, why: str) -> Registry:
        self.notes = (f"{plain(self.path)}: {why}: no decky is watched until DECNET writes it",)
        return Registry()


class UnreadableStateError(DeckiesError):
    """The content is no JSON object with a list of deckies; it may be half written."""

    def __init__(self, line: str, why: str) -> None:
        super().__init__(line)
        self.why = why


def parse_state(content: bytes, path: str) -> State:
    """Parse the content of a state file; `path` is for messages only.

    Raises:
        UnreadableStateError: the content cannot be read as a whole.
        DeckiesError: the deckies are on an ipvlan, which cannot be watched.
    """
    path = plain(path)
    try:
        document = json_document(content.decode("utf-8-sig"), path)
    except (UnicodeDecodeError, DeckiesError) as error:
        why = "empty file" if not content else "not a whole JSON object"
        raise UnreadableStateError(f"{path}: {why}", why) from error
    config = document.get("config")
    try:
        values = list(state_deckies(config))
    except EntryError as error:
        why = f"{error.place} is {error.what}"
        raise UnreadableStateError(f"{path}: {why}", why) from error
    settings = config if isinstance(config, dict) else {}
    if settings.get("ipvlan") is True:
        raise DeckiesError(
            f"{path}: config.ipvlan is true: all deckies of an ipvlan share one MAC address and"
            " bypass the hook; deploy DECNET with MACVLAN"
        )
    building = RegistryBuilder()
    faults = []
    for place, value in values:
        for fault in _taken(building, place, value):
            faults.append(f"{path}:{fault}; this decky is left out")
    if len(faults) > DECKIES_FAULTS:
        more = len(faults) - DECKIES_FAULTS
        faults[DECKIES_FAULTS:] = [f"{path}: {more} more deckies are left out"]
    interface = settings.get("interface")
    return State(
        Registry.built(building),
        tuple(faults),
        interface if isinstance(interface, str) and interface else None,
    )


def default_interface(path: str | None, environment: Mapping[str, str]) -> str:
    """The interface to watch if none is named: the variable's, the state's, or INTERFACE.

    DeckiesError for a state that cannot be used.
    """
    if named := environment.get(INTERFACE_VARIABLE):
        return named
    if path is not None:
        file = StateFile(path)
        file.read()
        if file.interface is not None:
            return file.interface
    return INTERFACE


def _taken(building: RegistryBuilder, place: str, value: object) -> Iterator[str]:
    """Take the addresses of one decky; give what is wrong with the others."""
    try:
        entries = state_entries(place, value)
    except EntryError as error:
        yield f"{error.place}: {error.what}"
        return
    for entry in entries:
        try:
            building.add(entry.decky())
        except ValueError as error:
            yield f"{entry.place}: {error}"
