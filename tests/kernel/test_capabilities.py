from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deckwire.kernel.capabilities import ATTACHING, LOADING, Capability, missing

NET_ADMIN, SYS_ADMIN = Capability.CAP_NET_ADMIN, Capability.CAP_SYS_ADMIN
PERFMON, BPF = Capability.CAP_PERFMON, Capability.CAP_BPF

HELD = "from deckwire.kernel import capabilities\nprint(*sorted(capabilities.held()))"


def held(*prefix: str) -> set[Capability]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", HELD], check=True, capture_output=True, text=True
    )
    return {Capability(int(number)) for number in done.stdout.split()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_effective_capabilities_are_read() -> None:
    everything = held()
    assert everything >= {NET_ADMIN, SYS_ADMIN, PERFMON, BPF}
    assert held("setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-all") == everything - {
        BPF,
        SYS_ADMIN,
    }
    assert held("setpriv", "--reuid=65534", "--clear-groups") == set()


def test_missing_capabilities_are_listed_in_their_order() -> None:
    assert missing(LOADING, frozenset()) == [NET_ADMIN, BPF, PERFMON]
    assert missing(ATTACHING, frozenset({NET_ADMIN})) == [BPF]
    assert missing(LOADING, frozenset({NET_ADMIN, BPF, PERFMON})) == []


def test_cap_sys_admin_includes_bpf_and_perfmon_but_not_net_admin() -> None:
    assert missing(LOADING, frozenset({SYS_ADMIN})) == [NET_ADMIN]


def printed(script: str, *prefix: str) -> list[str]:
    argv = [*prefix, sys.executable, "-c", script]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_thread_without_effective_capabilities_gets_them_back() -> None:
    script = """
from deckwire.kernel.capabilities import held, powerless
before = held()
try:
    with powerless():
        print(len(held()))
        raise ZeroDivisionError
except ZeroDivisionError:
    print(held() == before != set())
"""
    assert printed(script) == ["0", "True"]


SETS = """
import subprocess, sys
from deckwire.kernel.capabilities import Capability, give_up
give_up([Capability(int(number)) for number in sys.argv[1:]])
for line in open("/proc/thread-self/status"):
    if line.startswith(("Cap", "NoNewPrivs")): print(*line.split())
subprocess.run(["grep", "CapEff", "/proc/self/status"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_given_up_does_not_come_back() -> None:
    *sets, child = printed(SETS)
    assert sets == [f"Cap{name}: {0:016x}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] + [
        "NoNewPrivs: 1"
    ]
    # Root gets all capabilities of the bounding set when it starts a program.
    assert child.split() == ["CapEff:", f"{0:016x}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_some_can_be_kept() -> None:
    script = SETS.replace("sys.argv[1:]", "(0, 39)")
    mask = f"{1 | 1 << 39:016x}"
    *sets, _ = printed(script)
    assert sets[:5] == [
        *(f"CapInh: {0:016x}", f"CapPrm: {mask}", f"CapEff: {mask}", f"CapBnd: {mask}"),
        f"CapAmb: {0:016x}",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_ambient_capabilities_are_given_up_by_an_ordinary_user() -> None:
    some = "-all,+net_admin,+bpf"
    prefix = ["setpriv", "--reuid=65534", "--clear-groups"]
    prefix += [f"--inh-caps={some}", f"--ambient-caps={some}", f"--bounding-set={some}"]
    *sets, child = printed(SETS, *prefix)
    # Nobody without CAP_SETPCAP can change the bounding set. It grants nothing.
    bounding = f"CapBnd: {1 << 12 | 1 << 39:016x}"
    assert sorted(set(sets)) == sorted(
        {f"Cap{name}: {0:016x}" for name in ("Inh", "Prm", "Eff", "Amb")}
        | {bounding, "NoNewPrivs: 1"}
    )
    assert child.split() == ["CapEff:", f"{0:016x}"]
