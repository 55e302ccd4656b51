from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import pack, unpack

import pytest
from pyroute2 import IPRoute

from deckwire.kernel import loading
from deckwire.kernel.loader_process import Loader, LoadError
from deckwire.kernel.loading import Loaded, LoadRequest, attach_request, detach, load, reattach
from deckwire.kernel.programs import TCX_EGRESS, TCX_INGRESS
from deckwire.loader.again import attach_again
from deckwire.loader.errors import LoaderError
from deckwire.loader.filters import delete_filters
from tests.kernel.conftest import PROGRAMS, Load
from tests.support.kernel_namespaces import HAS_TCX, Namespace, ip

pytestmark = pytest.mark.root

needs_tcx = pytest.mark.skipif(not HAS_TCX, reason="this kernel has no TCX")
METHODS = pytest.mark.parametrize("method", [pytest.param("tcx", marks=needs_tcx), "clsact"])
BEST = "tcx" if HAS_TCX else "clsact"
HOOKS = {"ingress": TCX_INGRESS, "egress": TCX_EGRESS}


def ingress_hits(loaded: Loaded) -> int:
    return sum(unpack("=Q", part)[0] for part in loaded.maps["hits"].lookup_cpus(pack("=I", 0)))


def ours(namespace: Namespace) -> list[tuple[int, int]]:
    """Our TCX programs and clsact filters, ingress and egress."""
    counts = []
    for hook, attach_type in HOOKS.items():
        filters = namespace.tc("filter", "show", "dev", "dw0", hook)
        counts.append((len(namespace.attached(attach_type)), filters.count(f"deckwire_{hook}")))
    return counts


BY_METHOD = {"tcx": [(1, 0), (1, 0)], "clsact": [(0, 1), (0, 1)]}
NOTHING = [(0, 0), (0, 0)]


@METHODS
def test_frames_are_seen_and_passed_on_until_detached(
    method: str, namespace: Namespace, start: Load
) -> None:
    loaded = start(
        interfaces=("dw0",),
        netns=namespace.name,
        attach=method,
        programs=("submit", "tc_ingress", "tc_egress"),
    )
    (attachment,) = loaded.attachments
    assert (attachment.target, attachment.ifindex) == ("dw0", namespace.ifindex())
    assert (attachment.method, attachment.vepa, attachment.notes) == (method, False, ())
    assert ours(namespace) == BY_METHOD[method]
    namespace.send(10)
    assert ingress_hits(loaded) == 10
    detach(loaded)
    assert ours(namespace) == NOTHING
    namespace.send(10)
    assert ingress_hits(loaded) == 10


def test_tcx_is_chosen_if_the_kernel_has_it(namespace: Namespace, start: Load) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name)
    assert loaded.attachments[0].method == BEST


@pytest.mark.skipif(HAS_TCX, reason="this kernel has TCX")
def test_a_request_for_tcx_is_refused_if_the_kernel_has_none(
    namespace: Namespace, start: Load
) -> None:
    with pytest.raises(LoadError, match=r"^cannot attach by TCX: Linux .* has none"):
        start(interfaces=("dw0",), netns=namespace.name, attach="tcx")


def test_a_namespace_may_be_given_by_its_path(namespace: Namespace, start: Load) -> None:
    loaded = start(interfaces=("dw0",), netns=f"/run/netns/{namespace.name}")
    assert ours(namespace) == BY_METHOD[BEST]
    assert loaded.watch.snapshot() == {1: "lo", namespace.ifindex(): "dw0"}


@needs_tcx
def test_other_peoples_tcx_programs_stay_and_see_every_frame(
    namespace: Namespace, start: Load
) -> None:
    other = start(programs=("tc_ingress",))
    ifindex = namespace.ifindex()
    link = namespace.run(lambda: other.programs["tc_ingress"].link(ifindex, TCX_INGRESS))
    try:
        theirs = namespace.attached(TCX_INGRESS)
        loaded = start(interfaces=("dw0",), netns=namespace.name)
        assert namespace.attached(TCX_INGRESS)[1:] == theirs
        namespace.send(5)
        assert (ingress_hits(loaded), ingress_hits(other)) == (5, 5)
        detach(loaded)
        assert namespace.attached(TCX_INGRESS) == theirs
    finally:
        os.close(link)


def test_other_peoples_filters_and_the_qdisc_stay(namespace: Namespace, start: Load) -> None:
    other = start(programs=("tc_ingress",))

    def add_filters() -> None:
        with IPRoute() as route:
            route.tc("add", "clsact", 2)
            for priority, handle in ((1, 1), (49_152, 1)):
                route.tc(
                    *("add-filter", "bpf", 2),
                    handle=handle,
                    parent=0xFFFF_FFF2,
                    prio=priority,
                    protocol=3,
                    fd=other.programs["tc_ingress"].fd,
                    name="someone_else",
                    direct_action=True,
                )

    assert namespace.ifindex() == 2
    namespace.run(add_filters)
    before = namespace.tc("filter", "show", "dev", "dw0", "ingress")
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    assert ours(namespace) == BY_METHOD["clsact"]
    namespace.send(5)
    assert (ingress_hits(loaded), ingress_hits(other)) == (5, 10)
    detach(loaded)
    assert before.count("someone_else") == 2
    assert namespace.tc("filter", "show", "dev", "dw0", "ingress") == before
    assert "clsact" in namespace.tc("qdisc", "show", "dev", "dw0")


def test_filters_are_deleted_without_pyroute2(
    namespace: Namespace, start: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To import it takes a slow host longer than a service has for its stop."""
    start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    assert ours(namespace) == BY_METHOD["clsact"]
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    ifindex = namespace.ifindex()
    namespace.run(lambda: delete_filters(ifindex))
    assert ours(namespace) == NOTHING


def test_an_ingress_qdisc_instead_of_clsact_is_reported(namespace: Namespace, start: Load) -> None:
    namespace.tc("qdisc", "add", "dev", "dw0", "ingress")
    with pytest.raises(
        LoadError, match=r"^no clsact filter on dw0: .*; make sure that tc qdisc show dev dw0 shows"
    ):
        start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    assert namespace.tc("filter", "show", "dev", "dw0", "ingress") == ""
    if HAS_TCX:
        assert start(interfaces=("dw0",), netns=namespace.name).attachments[0].method == "tcx"


@METHODS
def test_a_second_agent_is_refused(method: str, namespace: Namespace, start: Load) -> None:
    namespace.ip("link", "add", "deck0", "link", "dw0", "type", "macvlan", "mode", "bridge")
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach=method)
    for interface in ("dw0", "deck0"):
        with pytest.raises(LoadError, match=f"^dw0 is already watched by process {os.getpid()} "):
            start(interfaces=(interface,), netns=namespace.name)
    assert ours(namespace) == BY_METHOD[method]
    loaded.close()
    loaded.attachments.clear()
    start(interfaces=("dw0",), netns=namespace.name, attach=method)
    assert ours(namespace) == BY_METHOD[method]


@METHODS
def test_after_a_kill_the_next_start_finds_the_interface_free(
    method: str, namespace: Namespace, start: Load
) -> None:
    script = (
        "import signal\n"
        "from pathlib import Path\n"
        "from deckwire.kernel.loading import LoadRequest, load\n"
        f"load(LoadRequest(('dw0',), {namespace.name!r}, {method!r},\n"
        f"                 source=Path({str(PROGRAMS)!r}), jumps=()))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"ready\n"
            assert ours(namespace) == BY_METHOD[method]
        finally:
            agent.send_signal(signal.SIGKILL)
    # Filters outlive the agent, links do not.
    assert ours(namespace) == (BY_METHOD["clsact"] if method == "clsact" else NOTHING)
    loaded = start(interfaces=("dw0",), netns=namespace.name)
    assert ours(namespace) == BY_METHOD[BEST]
    namespace.send(5)
    assert ingress_hits(loaded) == 5


def test_stale_filters_are_replaced_by_filters(namespace: Namespace, start: Load) -> None:
    killed = load(LoadRequest(("dw0",), namespace.name, "clsact", source=PROGRAMS, jumps=()))
    killed.close()
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    assert ours(namespace) == BY_METHOD["clsact"]
    namespace.send(5)
    assert ingress_hits(loaded) == 5


def test_a_macvlan_stands_for_its_parent(namespace: Namespace, start: Load) -> None:
    for name in ("deck0", "deck1"):
        namespace.ip("link", "add", name, "link", "dw0", "type", "macvlan", "mode", "bridge")
    loaded = start(interfaces=("deck0", "deck1", "dw0"), netns=namespace.name)
    (attachment,) = loaded.attachments
    assert (attachment.interface, attachment.target) == ("deck0", "dw0")
    assert attachment.notes == ("macvlan deck0 -> parent dw0", "macvlan deck1 -> parent dw0")
    assert ours(namespace) == BY_METHOD[BEST]


def test_a_macvlan_whose_parent_is_elsewhere_carries_the_programs_itself(
    namespace: Namespace, start: Load
) -> None:
    namespace.ip("link", "add", "deck0", "link", "dw0", "type", "macvlan", "mode", "bridge")
    namespace.ip("link", "set", "deck0", "netns", namespace.peer)
    loaded = start(interfaces=("deck0",), netns=namespace.peer)
    (attachment,) = loaded.attachments
    assert (attachment.interface, attachment.target) == ("deck0", "deck0")
    assert attachment.notes == (
        "the parent of macvlan deck0 is in another network namespace: the programs on deck0 see "
        "its own traffic alone; to watch all of the MACVLAN, name the parent and its --netns",
    )


@pytest.mark.parametrize("elsewhere", [False, True])
def test_vepa_mode_is_found_in_every_namespace(
    elsewhere: bool, namespace: Namespace, start: Load
) -> None:
    namespace.ip("link", "add", "deck0", "link", "dw0", "type", "macvlan", "mode", "vepa")
    if elsewhere:
        namespace.ip("link", "set", "deck0", "netns", namespace.peer)
    loaded = start(interfaces=("dw0",), netns=namespace.name)
    (attachment,) = loaded.attachments
    assert attachment.vepa is True
    assert attachment.notes == ("dw0 carries a macvlan in VEPA mode",)
    assert dict(loaded.maps["vepa_parents"].items()) == {pack("=I", attachment.ifindex): b"\1"}


def test_an_interface_that_is_back_is_searched_for_in_its_own_namespace_alone(
    namespace: Namespace, start: Load
) -> None:
    """The agent may not enter others by then, which is no news."""
    loaded = start(interfaces=("dw0",), netns=namespace.name)
    for name in ("deck0", "deck1"):
        namespace.ip("link", "add", name, "link", "dw0", "type", "macvlan", "mode", "vepa")
    namespace.ip("link", "set", "deck1", "netns", namespace.peer)
    attachment = reattach(loaded, "dw0")
    assert attachment is not None
    assert attachment.notes == ("dw0 carries a macvlan in VEPA mode",)
    namespace.ip("link", "del", "deck0")
    attachment = reattach(loaded, "dw0")
    assert attachment is not None
    assert (attachment.vepa, attachment.notes) == (False, ())


def test_a_macvlan_of_another_parent_with_the_same_index_is_not_ours(
    namespace: Namespace, start: Load
) -> None:
    """Each network namespace numbers its interfaces by itself."""
    there = namespace.run(lambda: socket.if_nametoindex("dw1"), namespace.peer)
    assert there == namespace.ifindex()
    ip(
        "-n",
        namespace.peer,
        "link",
        "add",
        "deck0",
        "link",
        "dw1",
        "type",
        "macvlan",
        "mode",
        "vepa",
    )
    assert start(interfaces=("dw0",), netns=namespace.name).attachments[0].vepa is False


def test_an_ipvlan_is_refused_and_so_is_its_parent(namespace: Namespace, start: Load) -> None:
    try:
        namespace.ip("link", "add", "deck0", "link", "dw0", "type", "ipvlan", "mode", "l2")
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no ipvlan")
    with pytest.raises(LoadError, match=r"^deck0 is an ipvlan"):
        start(interfaces=("deck0",), netns=namespace.name)
    with pytest.raises(
        LoadError,
        match=r"^dw0 is the parent of ipvlan deck0: only macvlan ",
    ):
        start(interfaces=("dw0",), netns=namespace.name)


def test_an_interface_that_is_not_ethernet_is_refused(namespace: Namespace, start: Load) -> None:
    try:
        namespace.ip("tuntap", "add", "tun0", "mode", "tun")
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no tun")
    with pytest.raises(LoadError, match=r"^tun0 is no Ethernet interface"):
        start(interfaces=("tun0",), netns=namespace.name)


@METHODS
def test_an_interface_that_came_back_is_attached_again(
    method: str, namespace: Namespace, start: Load
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach=method)
    namespace.send(3)
    namespace.ip("link", "del", "dw0")
    with pytest.raises(LoadError, match=r"^no interface dw0"):
        reattach(loaded, "dw0")
    assert loaded.attachments == []
    namespace.add_veth()
    attachment = reattach(loaded, "dw0")
    assert loaded.attachments == [attachment]
    assert attachment.ifindex == namespace.ifindex()
    namespace.send(4)
    assert ingress_hits(loaded) == 7
    detach(loaded)
    assert ours(namespace) == NOTHING


@METHODS
def test_an_absent_interface_can_be_attached_later(
    method: str, namespace: Namespace, start: Load
) -> None:
    options = {"netns": namespace.name, "attach": method, "wait": True}
    loaded = start(interfaces=("dw0", "dw7"), **options)
    assert [entry.interface for entry in loaded.attachments] == ["dw0"]
    (line,) = loaded.absent.values()
    assert list(loaded.absent) == ["dw7"]
    assert line.startswith("no interface dw7 in this network namespace (there are: ")
    detach(loaded)
    loaded = start(interfaces=("dw7",), **options)
    assert loaded.attachments == []
    namespace.ip("link", "set", "dw0", "name", "dw7")
    reattach(loaded, "dw7")
    namespace.ip("link", "set", "dw7", "name", "dw0")
    assert ours(namespace) == BY_METHOD[method]
    namespace.send(4)
    assert ingress_hits(loaded) == 4


def test_a_macvlan_on_an_attached_parent_needs_no_attachment(
    namespace: Namespace, start: Load
) -> None:
    loaded = start(interfaces=("dw0", "deck0"), netns=namespace.name, wait=True)
    namespace.ip("link", "add", "deck0", "link", "dw0", "type", "macvlan", "mode", "bridge")
    assert reattach(loaded, "deck0") is None
    assert ours(namespace) == BY_METHOD[BEST]
    assert [entry.interface for entry in loaded.attachments] == ["dw0"]


@METHODS
def test_reattaching_an_attached_interface_changes_nothing(
    method: str, namespace: Namespace, start: Load
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach=method)
    reattach(loaded, "dw0")
    assert ours(namespace) == BY_METHOD[method]
    namespace.send(4)
    assert ingress_hits(loaded) == 4


@METHODS
def test_detaching_from_a_deleted_interface_is_no_error(
    method: str, namespace: Namespace, start: Load
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach=method)
    namespace.ip("link", "del", "dw0")
    detach(loaded)
    assert loaded.attachments == []


@METHODS
def test_detaching_from_a_deleted_namespace_is_no_error(
    method: str, namespace: Namespace, start: Load
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach=method)
    namespace.delete()
    detach(loaded)
    assert loaded.attachments == []


class FailingLoaders:
    """A start_loader() whose first loaders are killed before their request, or do not start."""

    def __init__(self, count: int, *, killed: bool) -> None:
        self.count, self.killed = count, killed
        self.started = 0
        self._start = loading.start_loader

    @contextmanager
    def __call__(self, seconds: float | None = None) -> Iterator[Loader]:
        self.started += 1
        fails = self.started <= self.count
        if fails and not self.killed:
            raise OSError(12, "Cannot allocate memory")
        with self._start(seconds) as loader:
            if fails:
                loader._process.kill()
            yield loader


@pytest.mark.parametrize("killed", [True, False])
def test_detaching_is_tried_again_if_the_loader_fails(
    killed: bool, namespace: Namespace, start: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    loaders = FailingLoaders(1, killed=killed)
    monkeypatch.setattr(loading, "start_loader", loaders)
    detach(loaded)
    assert loaders.started == 2
    assert ours(namespace) == NOTHING


def test_filters_that_stay_are_reported_and_replaced_by_the_next_start(
    namespace: Namespace, start: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    loaders = FailingLoaders(100, killed=True)
    with monkeypatch.context() as patched:
        patched.setattr(loading, "start_loader", loaders)
        with pytest.raises(LoadError, match=r"^clsact filters of Deckwire stay on dw0: ") as caught:
            detach(loaded)
    assert "\n" not in str(caught.value)
    assert loaders.started == loading.DETACH_ATTEMPTS
    assert loaded.attachments == []
    assert ours(namespace) == BY_METHOD["clsact"]
    again = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    assert ours(namespace) == BY_METHOD["clsact"]
    namespace.send(5)
    assert (ingress_hits(again), ingress_hits(loaded)) == (5, 0)


def test_a_loader_that_hangs_ends_the_detaching_in_time(
    namespace: Namespace, start: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = start(interfaces=("dw0",), netns=namespace.name, attach="clsact")
    loaders = FailingLoaders(0, killed=False)
    with monkeypatch.context() as patched:
        patched.setattr(loading, "DETACH_SECONDS", 0.01)
        patched.setattr(loading, "start_loader", loaders)
        with pytest.raises(LoadError, match=r"stay on dw0: .*did not answer within"):
            detach(loaded)
    assert loaders.started == 1


@needs_tcx
def test_attaching_in_this_process_leaves_no_descriptor_if_it_fails(
    namespace: Namespace, start: Load
) -> None:
    """The agent tries again each second, and its own process does not end."""
    loaded = start(programs=("tc_ingress", "tc_egress"))
    body, (ingress, theirs, *more) = attach_request(loaded, ["dw0"])

    def open_files() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    def attach(egress: int) -> int:
        fds = [ingress, egress, *more]
        _, received = namespace.run(lambda: attach_again(body, fds, None))
        return len([os.close(fd) for fd in received])

    with open("/dev/null", "rb") as no_program:
        before = open_files()
        with pytest.raises(LoaderError, match=r"^cannot attach to dw0: "):
            attach(no_program.fileno())
        assert open_files() == before
    assert ours(namespace) == NOTHING
    # The lock, and two links.
    assert attach(theirs) == 3


@METHODS
def test_all_interfaces_or_none(method: str, namespace: Namespace, start: Load) -> None:
    namespace.ip("link", "add", "dw2", "type", "veth", "peer", "name", "dw3")
    keeper = start(interfaces=("dw2",), netns=namespace.name)
    with pytest.raises(LoadError, match=r"^dw2 is already watched"):
        start(interfaces=("dw0", "dw2"), netns=namespace.name, attach=method)
    assert ours(namespace) == NOTHING
    assert len(keeper.attachments) == 1


def test_no_filters_stay_if_a_later_interface_fails(
    namespace: Namespace, start: Load, tmp_path: Path
) -> None:
    """The map of VEPA parents has no room for the second one."""
    source = tmp_path / "programs.c"
    source.write_text(PROGRAMS.read_text().replace("vepa_parents, 64", "vepa_parents, 1"))
    namespace.ip("link", "add", "dw2", "type", "veth", "peer", "name", "dw3")
    for name in ("dw0", "dw2"):
        mode = ("type", "macvlan", "mode", "vepa")
        namespace.ip("link", "add", f"on-{name}", "link", name, *mode)
    with pytest.raises(LoadError, match=r"^cannot load: map vepa_parents is full"):
        start(interfaces=("dw0", "dw2"), netns=namespace.name, attach="clsact", source=source)
    assert ours(namespace) == NOTHING
