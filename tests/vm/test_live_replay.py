"""A live run and its replay: the shortest test of every part on another kernel."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deckwire.events.names import CONNECTION_EVENTS
from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.network import PARENT
from deckwire.lab.servers import smtp_server, tls_server
from tests.support.watching import EVERYTHING, UNSUPPRESSED

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SECONDS = 600.0
"""Longest wait for any condition: an emulated CPU is about 25 times slower."""
TIMES = ("rtt_", "ja4l_", "duration_s", "mean_iat_", "min_iat_", "max_iat_")
"""Prefixes of the fields that depend on the moment when the clock was read."""

NOT_IN_A_CAPTURE = ("packets", "packets_client", "packets_server", "event_id")
"""Live, a super-packet counts as its segments. A capture does not have their number. An id is made
of the event's time, which a capture has from another clock."""

Facts = dict[str, Any]


def facts(event: Facts) -> Facts:
    """The event without the fields that may differ between a live run and its replay."""
    fields = {
        name: value
        for name, value in event["fields"].items()
        if not name.startswith(TIMES) and name not in NOT_IN_A_CAPTURE
    }
    return {"event": event["event"], "host": event["host"], **fields}


def in_order(events: list[Facts]) -> list[Facts]:
    return sorted(
        (facts(event) for event in events if event["event"] in CONNECTION_EVENTS),
        key=lambda event: json.dumps(event, sort_keys=True),
    )


def talk_tls(lab: Lab, port: int, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    with (
        lab.client.connect(lab.deckies[0].v4, port, seconds=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="bank.example.com") as secured,
    ):
        secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while secured.recv(4096):
            pass


def talk_starttls(lab: Lab) -> None:
    with lab.client.connect(lab.deckies[0].v6, 25, seconds=SECONDS) as plain:
        replies = plain.makefile("rb", buffering=0)
        assert replies.readline().startswith(b"220 ")
        plain.sendall(b"EHLO client.example.com\r\n")
        while replies.readline().startswith(b"250-"):
            pass
        plain.sendall(b"STARTTLS\r\n")
        assert replies.readline().startswith(b"220 ")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname="mail.example.com") as secured:
            secured.sendall(b"QUIT\r\n")
            assert secured.recv(4096).startswith(b"221")


def test_a_replay_emits_the_events_of_the_live_run(tmp_path: Path) -> None:
    capture = tmp_path / "live.pcap"
    with Lab(deckies=("web-01",)) as lab:
        certificate = make_certificate(tmp_path, "bank.example.com")
        (decky,) = lab.deckies
        tls_server(lab, decky, certificate, 443, maximum=ssl.TLSVersion.TLSv1_2)
        tls_server(lab, decky, certificate, 8443)
        smtp_server(lab, decky, certificate, 25)
        recorder = lab.popen(
            lab.host,
            ["tcpdump", "-i", PARENT, "--immediate-mode", "-U", "-Z", "root", "-w", capture, "tcp"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert recorder.stderr is not None
        assert any("listening on" in line for line in recorder.stderr)
        agent = AgentProcess(lab, options=EVERYTHING, seconds=SECONDS)
        talk_tls(lab, 443, ssl.TLSVersion.TLSv1_2)
        talk_tls(lab, 8443, ssl.TLSVersion.TLSv1_3)
        talk_starttls(lab)
        agent.expect("tls_certificate", seconds=SECONDS, subject_cn="bank.example.com")
        agent.wait(
            lambda: len(agent.find("tcp_flow_timing")) == 3,
            "all connections closed",
            SECONDS,
        )
        assert agent.stop(seconds=SECONDS) == 0
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        replayed = lab.run(
            None,
            [
                *(sys.executable, "-P", "-m", "deckwire", "replay", "--format", "json"),
                *(*UNSUPPRESSED, "--deckies", lab.deckies_file(), capture),
            ],
            seconds=SECONDS,
        )
    assert replayed.returncode == 0, replayed.stderr
    live = in_order(agent.events)
    assert live == in_order([json.loads(line) for line in replayed.stdout.splitlines()])
    assert {event["event"] for event in live} == set(CONNECTION_EVENTS)
    assert {event["sni"] for event in live if event["event"] == "tls_session"} == {
        "bank.example.com",
        "mail.example.com",
    }
