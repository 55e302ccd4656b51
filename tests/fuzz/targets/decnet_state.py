"""decnet_state.parse_state: every good decky is taken, whatever the others are."""

from __future__ import annotations

import json
from typing import Any

from deckwire.deckies import DeckiesError, Registry
from deckwire.decnet_state import UnreadableStateError, parse_state
from deckwire.limits import DECKIES, DECKIES_FAULTS
from tests.fuzz.lines import check_message

_GOOD = {"name": "web-1", "ip": "192.0.2.7", "services": ["ssh", "http"], "nmap_os": "linux"}
_FIRST = {"name": "first", "ip": "203.0.113.77"}


def seeds() -> list[bytes]:
    lists = [
        [_GOOD],
        [_GOOD, {"name": "no address"}, {"ip": "192.0.2.8"}, 5, None, "x", [_GOOD]],
        [_GOOD, {**_GOOD, "name": "other"}, {**_GOOD, "nmap_os": "windows"}],
        [{"name": "db", "ip": "192.0.2.9", "ipv6": ["2001:db8::9", "fe80::1%eth0"], "ips": "::1"}],
        [{"name": "odd\n", "ip": "224.0.0.1", "services": [1, "a\nb"], "nmap_os": 7}] * 4,
        [],
    ]
    states = [
        {"config": {"deckies": deckies, "interface": interface, "ipvlan": False}, "more": [1, None]}
        for deckies in lists
        for interface in ("eth0", None, 7)
    ]
    states += [{"config": {"deckies": [_GOOD], "ipvlan": True}}, {"config": {}}, {"config": 1}]
    written = [json.dumps(state).encode() for state in states]
    return [
        *written,
        b"\xef\xbb\xbf" + written[0],
        *(written[0][:-1], b"", b"{}", b"[]", b"[" * 200, b"\xff"),
        b'{"config": {"deckies": [], "deckies": []}}',
    ]


def check(data: bytes) -> None:
    try:
        state = parse_state(data, "d\n")
    except DeckiesError as error:
        _check_error(error)
        return
    for fault in state.faults:
        check_message(fault)
        assert fault.startswith("d\\n:")
    assert len(state.faults) <= DECKIES_FAULTS + 1
    assert len(state.registry) <= DECKIES
    assert state.interface is None or state.interface
    for decky in state.registry:
        assert decky.name.isascii()
        assert decky.name.isprintable()
        assert all(label.isprintable() for label in (*decky.services, decky.os or ""))
    _check_again(state.registry)
    _check_with_another(json.loads(data.decode("utf-8-sig")), state.registry)


def _check_error(error: DeckiesError) -> None:
    """Assert that the error begins with the path, whose newline is escaped."""
    check_message(str(error))
    assert str(error).startswith("d\\n: ")
    if isinstance(error, UnreadableStateError):
        check_message(error.why)


def _check_again(registry: Registry) -> None:
    """Assert that what was read can be written and read again, without a fault."""
    deckies = [
        {
            "name": decky.name,
            "ip": str(decky.address),
            "nmap_os": decky.os,
            "services": list(decky.services),
        }
        for decky in registry
    ]
    again = parse_state(json.dumps({"config": {"deckies": deckies}}).encode(), "again")
    assert (again.registry, again.faults) == (registry, ())


def _check_with_another(document: dict[str, Any], registry: Registry) -> None:
    """Assert that one more good decky before the others changes nothing about them."""
    document["config"]["deckies"].insert(0, _FIRST)
    with_first = parse_state(json.dumps(document).encode(), "with")
    (first,) = [decky for decky in with_first.registry if decky.name == "first"][:1]
    others = [decky for decky in registry if decky.packed != first.packed]
    assert list(with_first.registry) == [first, *others]
