"""Where the bus is, by DECNET's rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwire.bus import address
from deckwire.bus.address import decnet_socket


def test_the_socket_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    system = tmp_path / "decnet/bus.sock"
    monkeypatch.setattr(address, "SYSTEM_SOCKET", str(system))
    assert decnet_socket({"DECNET_BUS_SOCKET": "/x/bus.sock"}) == "/x/bus.sock"
    assert decnet_socket({"DECNET_BUS_SOCKET": ""}) == "/home/me/.decnet/bus.sock"
    system.parent.mkdir()
    assert decnet_socket({}) == str(system)


@pytest.mark.parametrize(("value", "off"), [("false", True), ("0", True), ("true", False)])
def test_the_environment_turns_it_off(value: str, off: bool) -> None:
    environment = {"DECNET_BUS_ENABLED": value, "DECNET_BUS_SOCKET": "/x"}
    assert (decnet_socket(environment) is None) == off
