"""DECNET's state file: what is taken of it, what is reported, and how it is waited for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deckwire.deckies import DeckiesError, Decky, Registry, parse_address
from deckwire.decnet_state import (
    INTERFACE,
    INTERFACE_VARIABLE,
    StateFile,
    UnreadableStateError,
    default_interface,
    parse_state,
)
from deckwire.limits import DECKIES_FAULTS


def state(*deckies: object, **config: object) -> bytes:
    document = {"config": {"deckies": deckies, **config}, "compose_path": "/x"}
    return json.dumps(document).encode()


def entry(name: str, ip: object, **more: object) -> dict[str, object]:
    return {"name": name, "ip": ip, **more}


def decky(name: str, address: str, system: str | None = None, *services: str) -> Decky:
    return Decky(name, parse_address(address), system, services)


WEB = entry("web", "10.0.0.1", services=["ssh", "http"], nmap_os="linux")


def test_name_addresses_system_and_services_are_taken() -> None:
    both = entry("db", "10.0.0.2", ipv6=["fd00::2", "10.0.0.2"], services=None, nmap_os=None)
    read = parse_state(state(WEB, both, interface="eth7"), "f")
    assert list(read.registry) == [
        decky("web", "10.0.0.1", "linux", "ssh", "http"),
        decky("db", "10.0.0.2"),
        decky("db", "fd00::2"),
    ]
    assert (read.faults, read.interface) == ((), "eth7")


def test_bad_deckies_are_reported_and_the_good_ones_are_taken() -> None:
    content = state(
        WEB,
        entry("none", None),
        entry("bad name", "10.0.0.3"),
        entry("twice", "10.0.0.1"),
        5,
        {"ip": "10.0.0.6"},
        entry("half", "10.0.0.7", ipv6="fd00::zz"),
        entry("odd", "10.0.0.8", services=[1, "ssh", "a\nb"], nmap_os=7),
    )
    read = parse_state(content, "f")
    assert list(read.registry) == [
        decky("web", "10.0.0.1", "linux", "ssh", "http"),
        decky("half", "10.0.0.7"),
        decky("odd", "10.0.0.8", None, "ssh"),
    ]
    places = [fault.split(": ")[0] for fault in read.faults]
    assert places == [f"f:config.deckies[{at}]" for at in (1, 2, 3, 4, 5, 6)]
    assert "ip is missing" in read.faults[0]
    assert "named both web and twice" in read.faults[2]
    assert all("\n" not in fault for fault in read.faults)


def test_reports_are_bounded() -> None:
    read = parse_state(state(*[entry("a", "x")] * (DECKIES_FAULTS + 5)), "f")
    assert len(read.faults) == DECKIES_FAULTS + 1
    assert read.faults[-1] == "f: 5 more deckies are left out"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b'{"config": {"deck', "not a whole JSON object"),
        (b"[1]", "not a whole JSON object"),
        (b'{"config": "\xff"}', "not a whole JSON object"),
        (b'{"deckies": []}', "config.deckies is not a list; use a list of objects"),
    ],
)
def test_a_file_that_is_half_written_is_unreadable(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableStateError) as caught:
        parse_state(content, "f")
    assert str(caught.value) == f"f: {why}"


def test_ipvlan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decnet-state.json"
    path.write_bytes(state(WEB, ipvlan=True))
    for read in (StateFile(path).read, lambda: default_interface(str(path), {})):
        with pytest.raises(DeckiesError, match=r"config\.ipvlan is true: .*; deploy DECNET with"):
            read()
    path.write_bytes(state(WEB, ipvlan=False))
    assert len(StateFile(path).read()) == 1


def test_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "decnet-state.json"
    fixed = Registry([decky("fixed", "10.9.9.9")])
    file = StateFile(path, fixed)
    assert list(file.read()) == list(fixed)
    assert file.notes == (f"{path}: no such file: no decky is watched until DECNET writes it",)
    assert not file.changed()
    path.write_bytes(b"")
    assert file.changed()
    with pytest.raises(DeckiesError, match="empty file"):
        file.read()
    path.write_bytes(state(WEB))
    assert file.changed()
    assert len(file.read()) == 2
    assert file.notes == ()


def test_a_half_written_file_at_the_start_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "decnet-state.json"
    path.write_bytes(state(WEB)[:-3])
    file = StateFile(path)
    assert len(file.read()) == 0
    assert "not a whole JSON object: no decky is watched" in file.notes[0]
    path.write_bytes(state(WEB))
    assert file.changed()
    assert len(file.read()) == 1


def test_a_file_that_is_replaced_is_not_taken_for_gone(tmp_path: Path) -> None:
    path = tmp_path / "decnet-state.json"
    path.write_bytes(state(WEB))
    file = StateFile(path)
    file.read()
    path.unlink()
    assert not file.changed(), "it may be about to be replaced"
    fresh = tmp_path / "new"
    fresh.write_bytes(state(WEB, entry("db", "10.0.0.2")))
    os.replace(fresh, path)
    assert file.changed()
    assert len(file.read()) == 2
    path.unlink()
    assert not file.changed()
    assert file.changed(), "it is gone at the second look"
    assert len(file.read()) == 0


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeckiesError, match="not a regular file"):
        StateFile(tmp_path).read()


@pytest.mark.parametrize(
    ("content", "environment", "interface"),
    [
        (state(interface="eth7"), {INTERFACE_VARIABLE: "eth8"}, "eth8"),
        (state(interface="eth7"), {INTERFACE_VARIABLE: ""}, "eth7"),
        (state(interface=""), {}, INTERFACE),
        (state(interface=3), {}, INTERFACE),
        (b"{", {}, INTERFACE),
        (None, {}, INTERFACE),
    ],
)
def test_the_interface_by_default(
    tmp_path: Path, content: bytes | None, environment: dict[str, str], interface: str
) -> None:
    path = tmp_path / "decnet-state.json"
    if content is not None:
        path.write_bytes(content)
    assert default_interface(str(path), environment) == interface
    without_state = environment.get(INTERFACE_VARIABLE) or INTERFACE
    assert default_interface(None, environment) == without_state
