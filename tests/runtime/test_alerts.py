"""The alert rules of deploy/: each fires when it should, and docs/operations.md explains it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.shared import CHECKOUT
from tests.support.unpacked import program

RULES = CHECKOUT / "deploy/deckwire-alerts.yml"
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
PROMTOOL = program("promtool")
HOST = 'instance="sensor-01"'
GOOD = {
    f"deckwire_up{{{HOST}}}": "1+0x60",
    f"deckwire_status_timestamp_seconds{{{HOST}}}": "0+60x60",
    f"deckwire_problems{{{HOST}}}": "0+0x60",
    f'deckwire_interface_attached{{{HOST},interface="eth0"}}': "1+0x60",
    f"deckwire_samples_lost_total{{{HOST}}}": "7+0x60",
    f"deckwire_events_dropped_total{{{HOST}}}": "7+0x60",
    f"deckwire_output_tcp_queue_full_total{{{HOST}}}": "7+0x60",
    f"deckwire_output_udp_refused_total{{{HOST}}}": "7+0x60",
    f"deckwire_output_relp_spooled{{{HOST}}}": "12+0x60",
}
"""Series of a host where all is well, a value each minute. Old losses are no alert."""
OTHER = 'instance="sensor-02"'
EVENTS = {
    "DeckwireDown": {f"deckwire_status_timestamp_seconds{{{HOST}}}": "0+60x20 1200+0x40"},
    "DeckwireInterfaceMissing": {
        f'deckwire_interface_attached{{{HOST},interface="eth0"}}': "1+0x20 0+0x40"
    },
    "DeckwireDegraded": {f"deckwire_problems{{{HOST}}}": "0+0x20 2+0x40"},
    "DeckwireSamplesLost": {f"deckwire_samples_lost_total{{{HOST}}}": "7+0x25 9+0x40"},
    "DeckwireEventsDropped": {f"deckwire_events_dropped_total{{{HOST}}}": "7+0x25 9+0x40"},
    # A cause that had no counter until then.
    "DeckwireLinesLost": {f"deckwire_output_tls_in_doubt_total{{{HOST}}}": "_x25 3+0x40"},
    "DeckwireReceiverAway": {f"deckwire_output_relp_spooled{{{HOST}}}": "12+0x15 20000+0x40"},
}
"""What happens after 20 minutes or so, by the alert that it must raise."""
ENDED = {
    f"deckwire_up{{{OTHER}}}": "1+0x20",
    f"deckwire_status_timestamp_seconds{{{OTHER}}}": "0+60x20",
}
"""Series of a second host whose agent ends, and removes its file."""
MINUTES = 31


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing; `make test` unpacks it")
@pytest.mark.parametrize(
    ("fires", "happens"), [(None, {}), *EVENTS.items(), ("DeckwireDown", ENDED)]
)
def test_an_alert_fires_when_it_should(
    fires: str | None, happens: dict[str, str], tmp_path: Path
) -> None:
    series = GOOD | happens
    tests = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{MINUTES}m",
                        "exp_samples": [{"labels": f'{{alertname="{fires}"}}', "value": 1}]
                        if fires is not None
                        else [],
                    }
                ],
            }
        ],
    }
    # JSON is YAML.
    file = tmp_path / "test.yml"
    file.write_text(json.dumps(tests))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_and_a_row() -> None:
    assert list(EVENTS) == ALERTS
    page = (CHECKOUT / "docs/operations.md").read_text()
    assert re.findall(r"^\| (Deckwire\w+) \|", page, re.MULTILINE) == ALERTS
