"""Scans over a restart of the agent, and rules of `ignore` that a reload brings."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from deckwire.lab import Lab
from tests.netns.test_live_reload import Config
from tests.support.watching import assert_nothing_lost, counted, final_sums

pytestmark = pytest.mark.root


def knock(lab: Lab, ports: range, source: str) -> None:
    """Connect to closed ports of the first decky."""
    for port in ports:
        with suppress(OSError):
            lab.client.connect(lab.deckies[0].v4, port, source).close()


def test_a_scan_goes_on_after_a_restart_and_rules_change_by_a_reload(
    lab: Lab, tmp_path: Path
) -> None:
    first, second = lab.client.ipv4[:2]
    lines = f'state_dir = "{tmp_path}"\n'
    config = Config(tmp_path, lines)
    agent = config.start(lab)
    knock(lab, range(1, 4), first)
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert agent.find("scan_summary") == []

    agent = config.start(lab)
    knock(lab, range(4, 7), first)
    begun = agent.expect("scan_summary", src_ip=first, phase="begun")["fields"]
    assert begun["ports"].startswith("1-")
    rule = f'[[ignore]]\nname = "probe"\nsource = "{second}"\n'
    config.reload(lines + rule, "changed: ignore")
    knock(lab, range(1, 9), second)
    knock(lab, range(7, 8), first)
    agent.expect("tcp_syn_fingerprint", src_ip=first)
    line = config.reload(lines + "[[ignore]]\nsource = 'here'\n", "is no network")
    assert line.endswith("; the configuration before stays")
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    assert counted(agent, src_ip=second) == {}
    assert final_sums(agent)["ignored_rule_probe"] > 0
