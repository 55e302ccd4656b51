"""The deckies that are watched, and the file that names them."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Set
from copy import copy
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Self, TypeGuard, TypeVar

from deckwire.errors import UsageError, plain, shown
from deckwire.limits import DECKIES, DECKIES_FILE_BYTES
from deckwire.tcp.addresses import MAPPED_PREFIX
from deckwire.tcp.service_ports import is_known

NAME_LENGTH = 255
"""Longest HOSTNAME of a syslog line (RFC 5424, 6.2.4): a name becomes one."""
NAME = re.compile(r"[!-~]+")
"""PRINTUSASCII of RFC 5424: printable ASCII without space."""
OS_LENGTH = 255
"""Longest name of an operating system, in characters."""
_SLOTS = 16
"""Of an empty registry: a power of two, doubled when half of them are used."""
_T = TypeVar("_T")
ADDRESS_LENGTH = 45
"""Longest text of an address (an IPv6 one that ends as IPv4); messages cut longer keys."""


class DeckiesError(UsageError):
    """A deckies file that cannot be used; the text is one line, ``PATH:PLACE: why``."""


@dataclass(frozen=True, slots=True)
class Decky:
    """One decoy: its name, its address and the operating system it poses as.

    ValueError for a name that cannot be a HOSTNAME, or an address that no host can have.
    """

    name: str
    """Printable ASCII without spaces, 1 to 255 characters."""
    address: IPv4Address | IPv6Address
    os: str | None = None
    """The operating system it poses as, in the words of the file; None if it has none."""
    services: tuple[str, ...] = ()
    """The services that it offers, by their names or by TCP ports; empty if they are not known."""

    def __post_init__(self) -> None:
        if len(self.name) > NAME_LENGTH:
            raise ValueError(
                f"name of {len(self.name)} characters is too long; use at most {NAME_LENGTH}"
            )
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name {shown(self.name)} cannot be a HOSTNAME; use printable ASCII without spaces"
            )
        if self.os is not None and not (self.os.isprintable() and 0 < len(self.os) <= OS_LENGTH):
            raise ValueError(
                f"operating system {shown(self.os)} is not printable text; use 1 to {OS_LENGTH}"
                " printable characters"
            )
        if fault := _address_fault(self.address):
            raise ValueError(f"address {shown(str(self.address))} {fault}")

    @property
    def packed(self) -> bytes:
        """The address in 16 bytes, IPv4 as IPv4-mapped: the key of the BPF maps."""
        packed = self.address.packed
        return packed if len(packed) == 16 else MAPPED_PREFIX + packed


class Registry:
    """The deckies by address. It never changes, and is iterated in the order given.

    ValueError if an address has two names, or if there are too many deckies.

    Addresses and names are in few blocks of memory, without objects of their own. A reload needs a
    second registry for a moment. Objects would leave the memory of a full one in pieces.
    """

    __slots__ = ("_table",)

    def __init__(self, deckies: Iterable[Decky] = ()) -> None:
        self._table = RegistryBuilder()
        for decky in deckies:
            self._table.add(decky)

    @classmethod
    def built(cls, building: RegistryBuilder) -> Registry:
        """The deckies of a builder, which is not used any more."""
        made = cls.__new__(cls)
        made._table = building
        return made

    def name_of(self, packed: bytes) -> str | None:
        """The name of the decky with this 16-byte address, None for any other host."""
        number = self._table.find(packed)
        return None if number < 0 else self._table.name(number)

    def get(self, packed: bytes) -> Decky | None:
        """The decky with this 16-byte address, None for any other host."""
        number = self._table.find(packed)
        return None if number < 0 else self._table.decky(number)

    def claims(self, packed: bytes) -> Decky | None:
        """The decky with this address if it has a system or services; None for all others."""
        return self._table.claiming(packed)

    @property
    def addresses(self) -> Addresses:
        """The address of each decky in 16 bytes: a set that takes no memory of its own."""
        return Addresses(self._table)

    def merged(self, other: Registry) -> Registry:
        """The deckies of both; ValueError if they contradict each other."""
        if not len(self):
            return other
        return Registry((*self, *other))

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Decky]:
        return map(self._table.decky, range(len(self._table)))

    def __contains__(self, packed: object) -> bool:
        return self._table.find(packed) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Registry):
            return NotImplemented
        if self._table.same(other._table):
            return True
        return len(self) == len(other) and all(other.get(one.packed) == one for one in self)

    def __hash__(self) -> int:
        return hash(frozenset((one.packed, one.name) for one in self))

    def __repr__(self) -> str:
        return f"Registry({list(self)!r})"


class RegistryBuilder:
    """Takes deckies one by one for a registry: a hash table over blocks of memory."""

    def __init__(self) -> None:
        self._addresses = bytearray()
        """16 bytes of each decky, in the order in which they came."""
        self._names = bytearray()
        self._ends = array("I", (0,))
        """Where each name ends, after a 0."""
        self._others: dict[int, Decky] = {}
        """Deckies that have more than a name, by number."""
        self._slots = array("I", bytes(4 * _SLOTS))
        """The number of a decky plus one at the hash of its address, or in the next free slot."""

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, decky: Decky) -> None:
        """Add a decky; ValueError if it contradicts those there or is one too many."""
        packed = decky.packed
        number = self.find(packed)
        if number >= 0:
            decky = _joined(self.decky(number), decky)
        elif len(self) >= DECKIES:
            raise ValueError(f"more than {DECKIES} deckies; split them between several agents")
        else:
            number = len(self)
            self._addresses += packed
            self._names += decky.name.encode("ascii")
            self._ends.append(len(self._names))
            if 2 * len(self) > len(self._slots):
                self._slots = array("I", bytes(2 * 4 * len(self._slots)))
                for one in range(number):
                    self._enter(one, self.address(one))
            self._enter(number, packed)
        if decky.os is not None or decky.services:
            self._others[number] = decky

    def find(self, packed: object) -> int:
        """The number of the decky with this address; -1 if there is none."""
        slots, addresses = self._slots, self._addresses
        last = len(slots) - 1
        # Python seeds its hashes, so nobody can aim at a slot.
        slot = hash(packed) & last
        while number := slots[slot]:
            if addresses[16 * number - 16 : 16 * number] == packed:
                return number - 1
            slot = slot + 1 & last
        return -1

    def address(self, number: int) -> bytes:
        """The address of a decky in 16 bytes."""
        return bytes(self._addresses[16 * number : 16 * number + 16])

    def name(self, number: int) -> str:
        """The name of a decky."""
        return self._names[self._ends[number] : self._ends[number + 1]].decode("ascii")

    def claiming(self, packed: bytes) -> Decky | None:
        """The decky with this address if it has more than a name; None for all others."""
        # Each SYN-ACK asks, and few registries have such deckies.
        return self._others.get(self.find(packed)) if self._others else None

    def decky(self, number: int) -> Decky:
        """A decky."""
        other = self._others.get(number)
        if other is not None:
            return other
        packed = self.address(number)
        if packed.startswith(MAPPED_PREFIX):
            return Decky(self.name(number), IPv4Address(packed[len(MAPPED_PREFIX) :]))
        return Decky(self.name(number), IPv6Address(packed))

    def same(self, other: RegistryBuilder) -> bool:
        """Whether both have the same deckies in the same order."""
        return (
            self._addresses == other._addresses
            and self._names == other._names
            and self._ends == other._ends
            and self._others == other._others
        )

    def _enter(self, number: int, packed: bytes) -> None:
        last = len(self._slots) - 1
        slot = hash(packed) & last
        while self._slots[slot]:
            slot = slot + 1 & last
        self._slots[slot] = number + 1


class Addresses(Set[bytes]):
    """The addresses of a registry."""

    __slots__ = ("_table",)

    def __init__(self, table: RegistryBuilder) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._table.address, range(len(self._table)))

    def __contains__(self, packed: object) -> bool:
        return self._table.find(packed) >= 0

    @classmethod
    def _from_iterable(cls, found: Iterable[_T]) -> set[_T]:
        return set(found)


def _joined(known: Decky, decky: Decky) -> Decky:
    """Both entries of one decky; ValueError if they contradict each other."""
    if known.name != decky.name:
        raise ValueError(
            f"{decky.address} is named both {known.name} and {decky.name}; give it one name"
        )
    if None not in (known.os, decky.os) and known.os != decky.os:
        raise ValueError(f"{decky.address} is given two operating systems; give it one")
    return replace(known, os=known.os or decky.os, services=known.services or decky.services)


class DeckiesFile:
    """The file of ``--deckies``, which is read again when it changes."""

    def __init__(self, path: str | os.PathLike[str], fixed: Registry | None = None) -> None:
        """`fixed` are the deckies of ``--decky`` options: part of every registry that is read."""
        self.path = os.fspath(path)
        self._fixed = fixed if fixed is not None else Registry()
        self._read_facts: tuple[int, ...] | None = None
        """Facts about the file that the last `read` found; None if there was none."""
        self.notes: tuple[str, ...] = ()
        """Lines for the operator about the file that the last `read` found."""

    def with_fixed(self, fixed: Registry) -> Self:
        """The same file, with the same memory of the last `read`, and other fixed deckies."""
        other = copy(self)
        other._fixed = fixed
        return other

    def changed(self) -> bool:
        """Whether the file differs from the one that the last `read` found, good or bad.

        Costs one stat(2), and compares inode, size and modification time.
        """
        return self._facts() != self._read_facts

    def read(self) -> Registry:
        """Read the file: its deckies and the fixed ones.

        DeckiesError if anything in the file is wrong. The caller then keeps the registry it has.
        """
        registry = self._parsed()
        try:
            return self._fixed.merged(registry)
        except ValueError as error:
            raise DeckiesError(f"{plain(self.path)}: with --decky: {error}") from error

    def _parsed(self) -> Registry:
        return parse_deckies(self.content(), self.path)

    def _facts(self) -> tuple[int, ...] | None:
        try:
            facts = os.stat(self.path)
        except OSError:
            return None
        return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns

    def content(self) -> bytes:
        """The bytes of the file; DeckiesError if it cannot be read or is too large."""
        path = plain(self.path)
        # Before the file is read, so that what is written meanwhile is a change.
        self._read_facts = self._facts()
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise DeckiesError(f"{path}: not a regular file; name one")
            with open(self.path, "rb") as file:
                text = file.read(DECKIES_FILE_BYTES + 1)
        except OSError as error:
            raise DeckiesError(f"{path}: {error.strerror or 'cannot be read'}") from error
        if len(text) > DECKIES_FILE_BYTES:
            raise DeckiesError(f"{path}: larger than {DECKIES_FILE_BYTES} bytes; shorten it")
        return text


def parse_deckies(content: bytes, path: str) -> Registry:
    """Parse the content of a deckies file; `path` is for messages only.

    The content is lines ``ADDR NAME [OS]``, a JSON object of names by address, or DECNET's state
    file (docs/configuration.md). A single fault rejects the whole file with DeckiesError.
    """
    path = plain(path)
    if not content:
        # A program that truncates before it writes leaves this for a moment.
        raise DeckiesError(f"{path}: empty file; write {{}} to watch no decky")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DeckiesError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
    entries = _json_entries(text, path) if text.lstrip().startswith("{") else _line_entries(text)
    building = RegistryBuilder()
    try:
        for entry in entries:
            try:
                building.add(entry.decky())
            except ValueError as error:
                raise EntryError(entry.place, str(error)) from error
    except EntryError as error:
        raise DeckiesError(f"{path}:{error.place}: {error.what}") from error
    return Registry.built(building)


def parse_option(value: str) -> Decky:
    """Parse a ``--decky ADDR[=NAME]`` option; without a name, the address is the name.

    ValueError with one line for the user if the value is wrong.
    """
    address_text, equals, name = value.partition("=")
    try:
        address = parse_address(address_text)
        return Decky(name if equals else str(address), address)
    except ValueError as error:
        raise ValueError(f"{shown(value)}: {error}; write ADDR[=NAME]") from error


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Parse an address; ValueError with one line for the user if `text` is none.

    The zone id of a link-local address is left out, because no packet carries it.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IPv4 or IPv6 address") from None
    if isinstance(address, IPv6Address) and address.scope_id and address.is_link_local:
        return IPv6Address(address.packed)
    return address


def _address_fault(address: IPv4Address | IPv6Address) -> str:
    if address.is_multicast:
        return "is a multicast address"
    if address.is_unspecified:
        return "is the unspecified address"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return "is IPv4-mapped; write it as IPv4"
        if address.scope_id:
            return "has a zone id, which only a link-local address can have; leave it out"
    return ""


# --- the forms of the file ---


class Entry(NamedTuple):
    """One address of the file, as text."""

    place: str
    address: str
    name: str
    os: str | None = None
    services: tuple[str, ...] = ()

    def decky(self) -> Decky:
        """The decky; ValueError with what is wrong."""
        return Decky(self.name, parse_address(self.address), self.os, self.services)


class EntryError(Exception):
    """What is wrong with one entry, and its place in the file."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what


def _line_entries(text: str) -> Iterator[Entry]:
    for number, line in enumerate(_lines(text), 1):
        # A comment begins at a # at the start or after a space: a name may hold one.
        words = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].split(maxsplit=2)
        if not words:
            continue
        if len(words) == 1:
            raise EntryError(str(number), f"{shown(words[0])} stands alone; write ADDR NAME [OS]")
        address, name, *system = words
        yield Entry(str(number), address, name, system[0].strip() if system else None)


def _lines(text: str) -> Iterator[str]:
    """The lines one by one, because a list of them takes more memory than all deckies."""
    at = 0
    while (end := text.find("\n", at)) >= 0:
        yield text[at:end]
        at = end + 1
    yield text[at:]


def _json_entries(text: str, path: str) -> Iterator[Entry]:
    document = json_document(text, path)
    if "config" in document:
        return _state_entries(document["config"])
    return _map_entries(document)


def json_document(text: str, path: str) -> dict[str, object]:
    """The JSON object that `text` is; DeckiesError with a place if it is none."""
    try:
        document = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise DeckiesError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise DeckiesError(f"{path}:1: JSON nested too deeply; write names by address") from error
    except ValueError as error:
        raise DeckiesError(f"{path}:1: {error}") from error
    if not isinstance(document, dict):
        raise DeckiesError(f"{path}:1: not a JSON object; write one")
    return document


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"key {shown(key)} stands twice in one object; write it once")
        document[key] = value
    return document


def _map_entries(document: dict[str, object]) -> Iterator[Entry]:
    for address, value in document.items():
        place = plain(address[:ADDRESS_LENGTH])
        if isinstance(value, str):
            yield Entry(place, address, value)
            continue
        if not isinstance(value, dict):
            raise EntryError(place, "neither a name nor an object; write one of both")
        if unknown := next((key for key in value if key not in _MAP_KEYS), None):
            raise EntryError(place, f"unknown key {shown(unknown)}; use name, os and services")
        system = value.get("os")
        if system is not None and not isinstance(system, str):
            raise EntryError(place, "os is not text; use a string")
        yield Entry(
            place,
            address,
            _text_of(value, "name", place),
            system,
            tuple(_services(value.get("services"), place)),
        )


_MAP_KEYS = ("name", "os", "services")


def _services(found: object, place: str) -> Iterator[str]:
    """The services of an entry that an operator wrote; EntryError for one without known ports."""
    if found is None:
        return
    if not isinstance(found, list):
        raise EntryError(place, "services is not a list; use one of names and TCP ports")
    for one in found:
        service = str(one) if isinstance(one, int) and not isinstance(one, bool) else one
        if not isinstance(service, str) or not is_known(service):
            raise EntryError(
                place, f"service {shown(str(one))} has no known port; write its TCP port"
            )
        yield service


def _state_entries(config: object) -> Iterator[Entry]:
    for place, value in state_deckies(config):
        yield from state_entries(place, value)


def state_deckies(config: object) -> Iterator[tuple[str, object]]:
    """Place and value of each decky in the `config` of DECNET's state; EntryError without any."""
    deckies = config.get("deckies") if isinstance(config, dict) else None
    if not isinstance(deckies, list):
        raise EntryError("config.deckies", "not a list; use a list of objects")
    for index, value in enumerate(deckies):
        yield f"config.deckies[{index}]", value


def state_entries(place: str, value: object) -> list[Entry]:
    """All addresses of one decky of DECNET's state; EntryError if it has no name or address.

    An operating system or service that is no printable text is left out: the decky is watched
    without it.
    """
    if not isinstance(value, dict):
        raise EntryError(place, "not an object; use one with ip and name")
    name = _text_of(value, "name", place)
    addresses = [text for key in _STATE_ADDRESSES for text in _texts_of(value, key, place)]
    if not addresses:
        _text_of(value, "ip", place)
    system = value.get("nmap_os")
    services = value.get("services")
    return [
        Entry(
            place,
            address,
            name,
            system if _is_label(system) else None,
            tuple(one for one in services if _is_label(one)) if isinstance(services, list) else (),
        )
        for address in dict.fromkeys(addresses)
    ]


_STATE_ADDRESSES = ("ip", "ips", "ipv6")
"""Keys of a decky's addresses: a text or a list of texts. DECNET writes ``ip`` today."""


def _is_label(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= OS_LENGTH


def _texts_of(value: dict[str, object], key: str, place: str) -> list[str]:
    """The text, or the texts of the list, at a key; none if the key is missing or null."""
    found = value.get(key)
    texts = found if isinstance(found, list) else [] if found is None else [found]
    checked = [text for text in texts if isinstance(text, str)]
    if len(checked) < len(texts):
        raise EntryError(place, f"{key} is not text; use a string")
    return checked


def _text_of(value: dict[str, object], key: str, place: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        problem = "is missing" if text is None else "is not text"
        raise EntryError(place, f"{key} {problem}; use a string")
    return text
