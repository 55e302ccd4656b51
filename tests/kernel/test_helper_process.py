from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from deckwire.kernel.capabilities import Capability
from deckwire.kernel.helper_process import HelperProcess
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import Loaded, detach, reattach
from deckwire.kernel.user import User
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from tests.kernel.conftest import Load
from tests.support.intruder import statuses
from tests.support.kernel_namespaces import Namespace

pytestmark = pytest.mark.root

KEPT = (Capability.CAP_NET_ADMIN, Capability.CAP_BPF)
NOBODY = User.named("nobody")
GONE = (
    r"^the helper that attaches has ended \(.*\); restart Deckwire$",
    r"^clsact filters of Deckwire stay on dw0: the helper that attaches has ended ",
)


@pytest.fixture
def loaded(namespace: Namespace, start: Load) -> Iterator[Loaded]:
    """Programs on dw0 as filters, with a helper. dw7 is awaited, and other0 is not ours."""
    namespace.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    made = start(interfaces=("dw0", "dw7"), netns=namespace.name, attach="clsact", wait=True)
    before = made.attacher
    made.attacher = HelperProcess(made, NOBODY, KEPT)
    yield made
    made.attacher.close()
    made.attacher = before


def helper(loaded: Loaded) -> HelperProcess:
    assert isinstance(loaded.attacher, HelperProcess)
    return loaded.attacher


def pid(loaded: Loaded) -> int:
    return helper(loaded)._process.pid


def filters(namespace: Namespace, interface: str = "dw0") -> int:
    shown = [
        namespace.tc("filter", "show", "dev", interface, hook) for hook in ("ingress", "egress")
    ]
    return "".join(shown).count("deckwire_")


def test_it_has_the_needed_capabilities_alone(loaded: Loaded) -> None:
    (status,) = statuses(pid(loaded))
    assert set(status["Uid"].split()) == {str(NOBODY.uid)}
    assert set(status["Gid"].split()) == {str(NOBODY.gid)}
    mask = sum(1 << one for one in KEPT)
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {mask}
    assert {int(status[name], 16) for name in ("CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_it_attaches_what_comes_back_and_detaches(loaded: Loaded, namespace: Namespace) -> None:
    for _ in range(2):
        namespace.ip("link", "del", "dw0")
        with pytest.raises(LoadError, match=r"^no interface dw0"):
            reattach(loaded, "dw0")
        namespace.add_veth()
        attachment = reattach(loaded, "dw0")
        assert attachment is not None
        assert (attachment.ifindex, attachment.method) == (namespace.ifindex(), "clsact")
    assert filters(namespace) == 2
    detach(loaded)
    assert filters(namespace) == 0


def test_it_keeps_no_lock_and_no_link(loaded: Loaded, namespace: Namespace) -> None:
    def open_files() -> list[str]:
        return sorted(os.listdir(f"/proc/{pid(loaded)}/fd"))

    before = open_files()
    reattach(loaded, "dw0")
    with pytest.raises(LoadError, match=r"^no interface dw7"):
        reattach(loaded, "dw7")
    wait_until(lambda: open_files() == before, "it has closed the files")


def test_it_attaches_an_awaited_interface(loaded: Loaded, namespace: Namespace) -> None:
    namespace.ip("link", "set", "other0", "name", "dw7")
    assert reattach(loaded, "dw7") is not None
    assert (filters(namespace), filters(namespace, "dw7")) == (2, 2)
    detach(loaded)
    assert (filters(namespace), filters(namespace, "dw7")) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        {"do": "attach", "interfaces": ["other0"], "watched": []},
        {"do": "attach", "interfaces": ["dw0", "other0"], "watched": []},
        {"do": "attach", "interfaces": "dw0", "watched": []},
        {"do": "attach", "interfaces": ["dw0"], "watched": 7},
        {"do": "attach"},
        {"do": "load", "interfaces": ["dw0"], "netns": None, "wait": False},
        {"do": "detach", "ifindexes": "1"},
        {},
    ],
)
def test_it_serves_no_request_that_its_order_excludes(
    loaded: Loaded, namespace: Namespace, body: dict[str, Any]
) -> None:
    with pytest.raises(LoadError, match=r"^the helper does not serve this request"):
        helper(loaded).ask(body, [])
    assert filters(namespace, "other0") == 0
    assert reattach(loaded, "dw0") is not None


def test_it_detaches_from_no_other_interface(
    loaded: Loaded, namespace: Namespace, start: Load
) -> None:
    others = start(interfaces=("other0",), netns=namespace.name, attach="clsact")
    ifindexes: list[object] = [others.attachments[0].ifindex, None, "1", [], 2**70]
    assert helper(loaded).ask({"do": "detach", "ifindexes": ifindexes}, []) == ({}, [])
    assert (filters(namespace, "other0"), filters(namespace)) == (2, 2)


def test_a_helper_that_was_killed_is_one_line(loaded: Loaded, namespace: Namespace) -> None:
    os.kill(pid(loaded), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(LoadError, match=GONE[0]) as caught:
            reattach(loaded, "dw0")
        assert caught.value.passing
    # The attachment is closed, and its filters do nothing.
    assert loaded.attachments == []


def test_filters_that_a_killed_helper_leaves_are_reported(
    loaded: Loaded, namespace: Namespace
) -> None:
    os.kill(pid(loaded), signal.SIGKILL)
    with pytest.raises(LoadError, match=GONE[1]):
        detach(loaded)
    assert filters(namespace) == 2


def test_a_helper_that_hangs_is_ended(loaded: Loaded) -> None:
    os.kill(pid(loaded), signal.SIGSTOP)
    with pytest.raises(LoadError, match=r"^the helper that attaches has ended \(timed out\)"):
        helper(loaded).ask({"do": "detach", "ifindexes": []}, [], 0.01)
    assert helper(loaded)._process.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_it_ends_with_the_agent(loaded: Loaded) -> None:
    """The kernel closes the agent's end of the channel, however the agent ends."""
    helper(loaded)._channel.close()
    assert helper(loaded)._process.wait(PATIENCE_SECONDS) == 0


def test_a_helper_that_cannot_start_is_one_line(
    namespace: Namespace, start: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name)
    monkeypatch.setattr(loaded, "netns", "dwkern-none")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(LoadError, match=r"^no network namespace dwkern-none: .* does not exist"):
        HelperProcess(loaded, None, KEPT)
    assert sorted(os.listdir("/proc/self/fd")) == before
