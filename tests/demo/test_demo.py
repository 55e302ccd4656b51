"""The demo's display of events and its summary, without a lab."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from deckwire.demo.attacks import Attack
from deckwire.demo.display import show_event
from deckwire.demo.summary import LATERAL, Summary
from deckwire.lab import Lab

HELLO = {
    "src_ip": "198.18.0.3",
    "ja3": "0149f47eabf9a20d0893e2a44e5a6323",
    "ja4": "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
    "tls_version": "TLS 1.3",
    "sni": "www.example.com",
    "alpn": ["h2", "http/1.1"],
    "direction": "inbound",
}


def event(name: str, fields: dict[str, Any], host: str = "web-01") -> dict[str, Any]:
    ts = "2026-11-24T03:01:26.453503+00:00"
    return {"ts": ts, "host": host, "event": name, "severity": 6, "fields": fields}


def shown(name: str, fields: dict[str, Any], width: int = 1_000, *, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, highlight=False)
    show_event(console, event(name, fields))
    return out.getvalue()


def test_a_wide_terminal_gets_one_line() -> None:
    assert shown("tls_client_hello", HELLO) == (
        "  HELLO     web-01    from 198.18.0.3  www.example.com  TLS 1.3  alpn h2,http/1.1"
        f"  ja4 {HELLO['ja4']}  ja3 {HELLO['ja3']}\n"
    )


@pytest.mark.parametrize("width", [1, 5, 20, 40, 69, 70, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    lines = shown("tls_client_hello", HELLO, width).splitlines()
    details = "".join(line.strip() for line in lines)
    for value in (HELLO["ja3"], HELLO["ja4"], HELLO["sni"]):
        assert str(value) in details.replace("  ", "")
    # The head is not broken: a terminal narrower than that does it itself.
    assert max(map(len, lines)) <= max(width, len("  HELLO     web-01"))


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", "[link=http://a]b", "\\[x]"])
def test_text_from_the_network_is_no_markup(name: str) -> None:
    assert f"  {name}  TLS 1.3" in shown("tls_client_hello", {**HELLO, "sni": name})
    assert name in shown("tls_client_hello", {**HELLO, "sni": name}, colour=True)


def test_lateral_events_are_marked() -> None:
    assert "LATERAL  from" in shown("tls_client_hello", {**HELLO, "direction": "lateral"})
    coloured = shown("tls_client_hello", {**HELLO, "direction": "lateral"}, colour=True)
    assert "\x1b[1;31mLATERAL\x1b[0m" in coloured


def test_the_scanner_of_a_connection_is_named() -> None:
    flow = {
        "src_ip": "198.18.0.1",
        "packets": 4,
        "bytes": 0,
        "duration_s": 0.0,
        "mean_iat_ms": 0.06,
        "retransmits": 0,
        "close": "rst",
        "direction": "inbound",
    }
    assert "scanner" not in shown("tcp_flow_timing", flow)
    assert "  scanner: nmap  4 packets" in shown("tcp_flow_timing", {**flow, "tool": "nmap"})


def test_a_scan_shows_what_was_found() -> None:
    scan = {
        "src_ip": "198.18.0.1",
        "phase": "begun",
        "kinds": ["syn", "ack"],
        "names": ["web-01", "mail-01"],
        "targets": 7,
        "ports": "22,80",
        "probes": 9,
    }
    line = shown("scan_summary", {**scan, "tool": "nmap", "open_ports": "80"})
    assert line == (
        "  SCAN      web-01    from 198.18.0.1  scanner: nmap  scan begun: syn, ack"
        "  7 targets on web-01, mail-01  ports 22,80  open 80  9 probes\n"
    )
    assert "open none" in shown("scan_summary", scan)


def test_a_connection_of_a_decky_shows_its_peer() -> None:
    opened = {"src_ip": "198.18.1.1", "dst_ip": "192.0.2.9", "dst_port": 80}
    line = shown("decky_initiated", opened)
    assert line == "  INITIATED web-01    from 198.18.1.1  opens 192.0.2.9  port 80\n"
    assert "opens mail-01" in shown("decky_initiated", {**opened, "dst_decky": "mail-01"})


def test_first_bytes_are_shown_as_text() -> None:
    line = shown("tcp_payload", {"protocol": "smtp", "dst_port": 25, "payload_text": "EHLO a"})
    assert line == "  PAYLOAD   web-01    smtp  port 25  payload EHLO a\n"
    assert "no known protocol" in shown("tcp_payload", {"dst_port": 25})


def test_missing_fingerprints_are_left_out() -> None:
    line = shown("tls_client_hello", {**HELLO, "ja4": "", "sni": ""})
    assert "ja4" not in line
    assert "no name" in line


def test_unknown_events_are_shown_too() -> None:
    assert shown("new_event", {"a": 1, "b": "x"}) == "  new_event web-01    a 1  b x\n"
    assert shown("new_event", {}).strip() == "new_event web-01"


def test_the_years_of_certificates_have_four_digits() -> None:
    fields = {"subject_cn": "a", "self_signed": False, "issuer": "CN=b", "not_before": ""}
    for text, date in (("261124025926Z", "2026-11-24"), ("20810827030546Z", "2081-08-27")):
        assert f"until {date}" in shown("tls_certificate", {**fields, "not_after": text})


def demo_events(direction: str = "lateral") -> list[dict[str, Any]]:
    names = ["tcp_syn_fingerprint", "tcp_handshake", "tls_client_hello", "tls_session"]
    names += ["tls_certificate", "tcp_flow_timing"]
    fields = {**HELLO, "src_ip": "198.18.1.1", "direction": direction}
    return [event(name, fields) for name in names]


def test_missing_events_are_named() -> None:
    summary = Summary(Lab())
    assert summary.missing(demo_events()) == []
    assert summary.missing(demo_events("inbound")) == [LATERAL]
    assert summary.missing(demo_events()[1:]) == ["tcp_syn_fingerprint"]
    assert len(summary.missing([])) == 7


STATS = {"frames": 527, "samples_received": 62, "samples_lost": 0, "events_dropped": 0}
STATS |= {"flow_insert_failed": 0, "half_open_failed": 0}


def summary_of(events: list[dict[str, Any]], status: int = 0) -> str:
    out = io.StringIO()
    Summary(Lab()).show(Console(file=out, width=1_000), events, status)
    return out.getvalue()


def test_the_summary_counts_and_shows_the_syslog_line() -> None:
    text = summary_of([*demo_events(), event("capture_stats", STATS, "vm")])
    assert "7 events from 1 addresses on 1 deckies" in text
    assert "Lateral movement noticed: web-01 -> web-01." in text
    assert "The kernel saw 527 frames and passed 62 samples to the agent. Lost: 0." in text
    line = next(line for line in text.splitlines() if line.startswith("<134>1 "))
    assert line.startswith(
        "<134>1 2026-11-24T03:01:26.453503+00:00 web-01 sniffer - tls_client_hello "
        '[decnet@55555 src_ip="198.18.1.1" ja3='
    )
    assert ' alpn="h2,http/1.1" direction="lateral"]' in line
    assert text.splitlines()[-1].startswith("Everything expected was seen")


def test_the_summary_reports_losses_and_missing_events() -> None:
    lossy = event("capture_stats", {**STATS, "samples_lost": 3}, "vm")
    assert "Lost: samples_lost 3." in summary_of([*demo_events(), lossy])
    assert "The agent emitted no statistics." in summary_of(demo_events())
    assert "The agent ended with status 1." in summary_of([*demo_events(), lossy], status=1)
    assert re.search(
        r"^Not seen: tcp_syn_fingerprint, .*, a lateral event\.$", summary_of([]), re.M
    )


def test_a_program_that_is_not_installed_is_missing() -> None:
    def attack(program: str) -> Attack:
        return Attack("title", program, "198.18.0.1", lambda: None, ())

    assert attack("no-such-program-here").missing_program()
    assert not attack("sh").missing_program()
    assert not attack("Python").missing_program()
