"""`deckwire doctor` and the loader of `deckwire run` give the same verdict on every interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from deckwire.doctor.interface import examine_interface
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import Loaded, LoadRequest, detach, load
from deckwire.lab import Lab, Node
from deckwire.lab.network import HOST_INTERFACE, PARENT
from tests.kernel.conftest import PROGRAMS

pytestmark = pytest.mark.root

VEPA, IPVLAN, PLAIN, PEER = "vepa0", "ipvl0", "plain0", "plain1"


class Case(NamedTuple):
    """An interface, and the verdict on it."""

    interface: str
    node: Callable[[Lab], Node]
    target: str | None
    """The interface that gets the programs; None: the interface cannot be watched."""
    says: str
    """A part of what both say; if empty, they need not say anything."""
    link: tuple[str, ...] = ()
    """The words after ``ip link add`` that make an interface of the case."""
    moved: bool = False
    """The made interface is moved into the client's network namespace."""
    vepa: bool = False


def host(lab: Lab) -> Node:
    return lab.host


def client(lab: Lab) -> Node:
    return lab.client


def decky(lab: Lab) -> Node:
    return lab.deckies[0]


def on(name: str, kind: str, mode: str) -> tuple[str, ...]:
    return (name, "link", PLAIN, "type", kind, "mode", mode)


CASES = {
    "plain veth": Case(PLAIN, host, PLAIN, ""),
    "macvlan parent": Case(PARENT, host, PARENT, ""),
    "macvlan": Case(HOST_INTERFACE, host, PARENT, ""),
    "macvlan whose parent is elsewhere": Case(
        "eth0", decky, "eth0", "the parent of macvlan eth0 is in another network namespace: "
    ),
    "parent of a macvlan in VEPA mode": Case(
        PLAIN, host, PLAIN, "", on(VEPA, "macvlan", "vepa"), vepa=True
    ),
    "parent of a macvlan in VEPA mode elsewhere": Case(
        PLAIN, host, PLAIN, "", on(VEPA, "macvlan", "vepa"), moved=True, vepa=True
    ),
    "macvlan in VEPA mode": Case(VEPA, host, PLAIN, "", on(VEPA, "macvlan", "vepa"), vepa=True),
    "ipvlan": Case(IPVLAN, host, None, "ipvl0 is an ipvlan: ", on(IPVLAN, "ipvlan", "l2")),
    "parent of an ipvlan": Case(
        PLAIN, host, None, "plain0 is the parent of ipvlan ipvl0: ", on(IPVLAN, "ipvlan", "l2")
    ),
    "parent of an ipvlan elsewhere": Case(
        PLAIN,
        host,
        None,
        "plain0 is the parent of ipvlan ipvl0: ",
        on(IPVLAN, "ipvlan", "l2"),
        moved=True,
    ),
    "ipvlan whose parent is elsewhere": Case(
        IPVLAN, client, None, "ipvl0 is an ipvlan: ", on(IPVLAN, "ipvlan", "l2"), moved=True
    ),
    "missing interface": Case(
        "nosuch0", host, None, "no interface nosuch0 in this network namespace (there are: host0, "
    ),
    "loopback": Case("lo", host, None, "lo is the loopback: "),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(deckies=["one"], host_macvlan=True) as made:
        done = made.run(
            made.host, ["ip", "link", "add", PLAIN, "type", "veth", "peer", "name", PEER]
        )
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def case(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Case]:
    """The case, with its interface made."""
    found = CASES[request.param]
    if not found.link:
        yield found
        return
    name = found.link[0]
    made = lab.run(lab.host, ["ip", "link", "add", *found.link])
    if made.returncode and "ipvlan" in found.link:
        pytest.skip("this kernel has no ipvlan")
    assert made.returncode == 0, made.stderr
    if found.moved:
        lab.run(lab.host, ["ip", "link", "set", name, "netns", lab.client.netns])
    try:
        yield found
    finally:
        lab.run(lab.client if found.moved else lab.host, ["ip", "link", "del", name])


def attach(case: Case, lab: Lab) -> Loaded | LoadError:
    """What the loader does with the interface."""
    request = LoadRequest(
        interfaces=(case.interface,), netns=case.node(lab).netns, source=PROGRAMS, jumps=()
    )
    try:
        return load(request)
    except LoadError as error:
        return error


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_the_loader_and_the_doctor_agree(case: Case, lab: Lab) -> None:
    findings = {
        finding.subject: finding
        for finding in examine_interface(case.interface, case.node(lab).netns)
    }
    diagnosis = findings["interface"]
    result = attach(case, lab)
    if isinstance(result, LoadError):
        assert case.target is None, result
        assert not result.passing
        assert diagnosis.state == "missing"
        assert diagnosis.text == str(result)
        assert str(result).startswith(case.says)
        return
    try:
        (attachment,) = result.attachments
        assert attachment.target == case.target
        assert attachment.vepa == case.vepa
        assert diagnosis.state == ("note" if case.says else "ok")
        if case.says:
            assert diagnosis.text.startswith(case.says)
            assert diagnosis.text in attachment.notes
        assert (f"{case.target} carries a macvlan in VEPA mode" in attachment.notes) == case.vepa
        assert findings["namespaces"].text.endswith(
            ", one or more in VEPA mode" if case.vepa else ", none in VEPA mode"
        )
        # An agent that watches is no obstacle to a diagnosis, and is noted.
        watched = examine_interface(case.interface, case.node(lab).netns)
        assert [finding.state for finding in watched if finding.subject == "agent"] == ["note"]
        assert "agent" not in findings
    finally:
        detach(result)
        result.close()


def test_a_missing_namespace_is_the_same_line_for_both() -> None:
    (finding,) = examine_interface(PARENT, "dwlab-none")
    with pytest.raises(LoadError) as caught:
        load(LoadRequest(interfaces=(PARENT,), netns="dwlab-none", source=PROGRAMS, jumps=()))
    assert (finding.state, finding.subject) == ("missing", "netns")
    assert finding.text == str(caught.value)
