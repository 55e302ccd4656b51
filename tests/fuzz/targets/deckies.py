"""deckies.parse_deckies: a registry that can be written and parsed again, or a one-line error."""

from __future__ import annotations

import json

from deckwire.deckies import DeckiesError, parse_deckies
from deckwire.limits import DECKIES
from deckwire.tcp.service_ports import is_known
from tests.fuzz.lines import check_message


def seeds() -> list[bytes]:
    state = {"config": {"deckies": [{"ip": "192.0.2.7", "name": "web-1"}]}, "other": [1, None]}
    return [
        b"192.0.2.1 decky-1 linux # comment\n\n# all\n2001:db8::1 decky-6 Windows 11\n",
        b"192.0.2.1\tname#1\r\n192.0.2.2 b\n192.0.2.1 name#1 os",
        b'{"192.0.2.1": "a", "2001:db8::2": {"name": "b", "os": "linux #1"}}',
        b'{"192.0.2.1": {"name": "b", "services": ["ssh", 8080, "443", true, 65536, "x"]}}',
        b'{"192.0.2.1": {"name": "b", "services": ["SSH", 8080, "0443"]}}',
        json.dumps(state).encode(),
        b"\xef\xbb\xbf192.0.2.1 bom",
        b'{"192.0.2.1": "a", "192.0.2.1": "b"}',
        b"::ffff:192.0.2.1 mapped\nfe80::1%eth0 zone\n0.0.0.0 none",
        b"[[[[[[", b'{"a": ' * 50, b'{"192.0.2.1": 1' + b"0" * 30 + b"}",
    ]  # fmt: skip


def check(data: bytes) -> None:
    try:
        registry = parse_deckies(data, "d\n")
    except DeckiesError as error:
        check_message(str(error))
        _check_place(error)
        return
    assert len(registry) <= DECKIES
    for decky in registry:
        assert decky.name.isascii()
        assert decky.name.isprintable()
        assert " " not in decky.name
        assert 0 < len(decky.name) <= 255
        assert len(decky.packed) == 16
        assert registry.name_of(decky.packed) == decky.name
    again = {
        str(decky.address): {"name": decky.name}
        | ({"os": decky.os} if decky.os else {})
        | ({"services": decky.services} if decky.services else {})
        for decky in registry
    }
    if all(is_known(service) for decky in registry for service in decky.services):
        # Services that another program names may be unknown, those of an operator may not.
        assert parse_deckies(json.dumps(again).encode(), "again") == registry
    assert list(registry.addresses) == [decky.packed for decky in registry]


def _check_place(error: DeckiesError) -> None:
    """Assert that the error begins with the path, whose newline is escaped."""
    assert str(error).startswith("d\\n:")
    assert str(error).isascii()
