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
