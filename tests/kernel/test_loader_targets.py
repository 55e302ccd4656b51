"""The choice of targets among interfaces that this machine's kernel may not have.

Interfaces of the other kinds are real in test_attachment.py and tests/doctor/test_verdicts.py.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deckwire.kernel import rtnetlink
from deckwire.kernel.rtnetlink import Interface
from deckwire.loader import targets
from deckwire.loader.errors import LoaderError
from deckwire.loader.targets import resolve

WIRE = Interface(2, "eth0", "", 1, 1, None, None, None)
TUNNEL = Interface(7, "tun0", "tun", 65_534, 1, None, None, None)
IPVLAN = Interface(8, "ip0", "ipvlan", 1, 1, 2, None, None)
IPVTAP = Interface(9, "ip1", "ipvtap", 1, 1, 2, None, None)


def resolve_among(
    monkeypatch: pytest.MonkeyPatch, name: str, present: list[Interface], on_it: list[Interface]
) -> targets.Resolution:
    """resolve() in a namespace with these interfaces; a search finds `on_it`."""
    monkeypatch.setattr(rtnetlink, "list_interfaces", lambda _: present)
    search = SimpleNamespace(found=on_it, searched=3, gaps="not all were searched")
    monkeypatch.setattr(targets, "Search", lambda _, elsewhere: search)
    return resolve([name])


@pytest.mark.parametrize(
    ("name", "present", "on_it", "line"),
    [
        (
            "tun0",
            [TUNNEL],
            [],
            r"^tun0 is no Ethernet interface \(ARPHRD 65534\): .*; name the par",
        ),
        ("ip0", [WIRE, IPVLAN], [], "^ip0 is an ipvlan: only macvlan networks .*; name the par"),
        ("ip1", [IPVTAP], [], "^ip1 is an ipvtap: only macvlan networks .*; name the parent"),
        ("eth0", [WIRE, IPVLAN], [IPVLAN], "^eth0 is the parent of ipvlan ip0: only macv.*; make "),
        ("eth0", [WIRE], [IPVTAP], "^eth0 is the parent of ipvtap ip1: only macvlan .*; make "),
    ],
)
def test_tunnels_and_ipvlans_are_refused(
    name: str,
    present: list[Interface],
    on_it: list[Interface],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(LoaderError, match=line) as caught:
        resolve_among(monkeypatch, name, present, on_it)
    assert not caught.value.passing


def test_gaps_of_the_search_are_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resolution = resolve_among(monkeypatch, "eth0", [WIRE], [])
    (target,) = resolution.targets
    assert (target.name, target.ifindex, target.vepa) == ("eth0", 2, False)
    assert len(target.notes) == 1
    assert target.notes[0].startswith("not all were searched; grant CAP_SYS_ADMIN")
    assert (resolution.searched, resolution.gaps) == (3, "not all were searched")


def test_without_names_nothing_is_searched() -> None:
    assert resolve([]) == ([], {}, 0, None)
