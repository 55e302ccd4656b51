"""The Prometheus file: names, types and values, and what promtool says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from deckwire.runtime.metrics import exposition
from tests.runtime.test_status import status
from tests.support.unpacked import program

CHECKOUT = Path(__file__).parents[2]
PROMTOOL = program("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is missing; `make test` unpacks it"
)
COUNTERS = {
    "events_emitted": 12,
    "output_tcp_queued": 3,
    "output_relp_spooled": 5,
    "failed_in-some place": 1,
}


def metrics(text: bytes) -> dict[str, str]:
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def test_counters_and_gauges_have_their_names() -> None:
    found = metrics(exposition(status(counters=COUNTERS, problems=["one", "two"])))
    assert found["deckwire_up"] == "1"
    assert found["deckwire_problems"] == "2"
    assert found["deckwire_deckies"] == "3"
    assert found['deckwire_interface_attached{interface="parent0"}'] == "1"
    assert found["deckwire_events_emitted_total"] == "12"
    assert found["deckwire_output_tcp_queued"] == "3"
    assert found["deckwire_output_relp_spooled"] == "5"
    assert found["deckwire_failed_in_some_place_total"] == "1"


def test_an_interface_that_is_missing_is_0() -> None:
    found = metrics(exposition(status(interfaces={'eth"0\\': "missing"})))
    assert found['deckwire_interface_attached{interface="eth\\"0\\\\"}'] == "0"


def test_each_metric_has_help_and_type() -> None:
    text = exposition(status(counters=COUNTERS)).decode()
    names = {re.split("[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    for name in names:
        assert text.count(f"# HELP {name} ") == text.count(f"# TYPE {name} ") == 1


@needs_promtool
def test_promtool_accepts_the_metrics() -> None:
    text = exposition(status(counters=COUNTERS))
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_promtool
def test_promtool_accepts_the_alert_rules() -> None:
    rules = CHECKOUT / "deploy" / "deckwire-alerts.yml"
    done = subprocess.run([PROMTOOL, "check", "rules", rules], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_use_metrics_that_exist() -> None:
    rules = (CHECKOUT / "deploy" / "deckwire-alerts.yml").read_text()
    named = set(re.findall(r"\bdeckwire_[a-z_]+", rules))
    known = set(metrics(exposition(status()))) | {"deckwire_interface_attached"}
    known |= {"deckwire_samples_lost_total", "deckwire_events_dropped_total"}
    # The start of a pattern: tests/runtime/test_alerts.py has metrics that it matches.
    known.add("deckwire_output_")
    assert named <= known
    assert len(named) > 4
