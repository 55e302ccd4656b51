"""nmap's connect scans are recognised. Other clients and a browser are not taken for scans."""

from __future__ import annotations

import shutil
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import LabError
from deckwire.lab.servers import http_server, serve, tls_server
from tests.support.live_wire import resolve
from tests.support.watching import EVERYTHING, LARGE_RINGS, assert_nothing_lost

pytestmark = pytest.mark.root

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCANS = 12
"""The most scans until one is recognised; the test gives the reason."""
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=120).close()
    except OSError:
        pass
"""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: close() sends a reset."""


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def greet(connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example.test ESMTP\r\n")
    connection.recv(1_000)


def open_ports(lab: Lab) -> None:
    """Open 443, 80 and 25 (with a greeting) on the first decky, and 8080 on the second."""
    web, mail, _ = lab.deckies
    tls_server(lab, web, make_certificate(lab.directory, "www.example.test", key="ec"))
    http_server(lab, web)
    serve(lab, web, 25, greet)
    http_server(lab, mail, 8080)


def named(agent: AgentProcess) -> list[tuple[str, str, int]]:
    """Event, tool and destination port of all events that name a tool."""
    return sorted(
        (event["event"], event["fields"]["tool"], event["fields"]["dst_port"])
        for event in agent.events
        if "tool" in event["fields"] and event["event"] != "scan_summary"
    )


@needs("nmap", "setpriv", "taskset")
@pytest.mark.parametrize(
    ("user", "options", "decky", "ports", "evidence"),
    [
        ([], ["-p80,443,25"], 0, {80, 443}, "answered 3"),
        (NOBODY, ["-p80,443,81"], 0, {80, 443}, "answered 2; unanswered 1"),
        (NOBODY, ["-p1-100,443"], 0, {80, 443}, ""),
        ([], ["-6", "-p8000-8100"], 1, {8080}, "answered 1; unanswered 63+"),
        ([], ["-p8080,22,443", "--scan-delay", "300ms"], 1, {8080}, "answered 1; unanswered 2"),
    ],
)
def test_a_connect_scan_is_recognised(
    lab: Lab,
    user: Sequence[str],
    options: Sequence[str],
    decky: int,
    ports: set[int],
    evidence: str,
) -> None:
    open_ports(lab)
    agent = AgentProcess(lab, options=["--dedup-ttl", "0", *LARGE_RINGS])
    target = lab.deckies[decky]
    address = target.v6 if "-6" in options else target.v4

    def is_named() -> bool:
        found = agent.find("tcp_flow_timing", tool="nmap", dst_ip=address)
        return ports <= {event["fields"]["dst_port"] for event in found}

    # Use one CPU, because with two a veth pair may swap the ACK and the reset after it. They may
    # still be swapped on a busy machine, so the scan is repeated.
    resolve(lab, lab.client, target)
    scan = ["taskset", "-c", "0", *user, "nmap", "-n", "-Pn", "-sT", *options, address]
    for _ in range(SCANS):
        done = lab.run(lab.client, scan)
        assert done.returncode == 0, done.stderr
        with suppress(LabError):
            agent.wait(is_named, "the scan is recognised", 5)
            break
    for port in ports:
        where = {"tool": "nmap", "dst_ip": address, "dst_port": port}
        flow = agent.expect("tcp_flow_timing", **where)
        assert flow["host"] == target.name
        fields = flow["fields"]
        assert (fields["close"], fields["bytes"]) == ("rst", 0)
        assert fields["tool_evidence"].startswith("connect scan; handshake then reset; no data; ")
        assert evidence in fields["tool_evidence"]
    assert agent.stop() == 0
    assert_nothing_lost(agent)
    # The kernel makes the SYNs of a connect scan, so they have its fingerprint.
    syns = agent.find("tcp_syn_fingerprint")
    assert {event["fields"]["os_guess"] for event in syns} == {"linux"}
    assert {event for event, _, _ in named(agent)} == {"tcp_flow_timing"}


def test_other_clients_are_not_taken_for_scans(lab: Lab) -> None:
    """They come from one address one after another. Even together they are no scan."""
    open_ports(lab)
    agent = AgentProcess(lab, options=EVERYTHING)
    web = lab.deckies[0].v4
    commands: list[list[str]] = [
        *(["curl", "-sk", "-m", "120", f"http://{web}:{port}/"] for port in (80, 81, 82, 83)),
        ["curl", "-sk", "-m", "120", f"https://{web}/"],
        ["openssl", "s_client", "-connect", f"{web}:443"],
        ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=120", "-p", "25", web],
        ["nc", "-z", "-w", "120", web, "20-100"],
        ["nc", "-z", "-w", "120", web, "443"],
        [sys.executable, "-c", CONNECT, web, "25", "80", "443", "81", "82"],
        ["timeout", "-s", "KILL", "0.3", "nc", web, "80"],
    ]
    for command in commands:
        if shutil.which(command[0]) is not None:
            lab.run(lab.client, command)
    # Health checks of one service from another address, as load balancers make them.
    for _ in range(5):
        with lab.client.connect(web, 443, lab.client.ipv4[1]) as check:
            check.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert agent.stop() == 0
    assert named(agent) == []
    checks = agent.find("tcp_flow_timing", src_ip=lab.client.ipv4[1], close="rst", bytes=0)
    assert len(checks) == 5
    assert_nothing_lost(agent)


def test_a_browser_is_not_taken_for_a_scan(lab: Lab, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser is installed: {', '.join(BROWSERS)}")
    open_ports(lab)
    agent = AgentProcess(lab, options=EVERYTHING)
    web, mail = lab.deckies[0].v4, lab.deckies[1].v4
    # Only the deckies can be reached. Visit TLS, a plain port and a closed port.
    for url in ("https://www.example.test/", f"http://{mail}:8080/", f"http://{web}:81/"):
        done = lab.run(
            lab.client,
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *("--disable-dev-shm-usage", "--no-first-run", "--ignore-certificate-errors"),
                *("--host-resolver-rules=MAP www.example.test " + web, "--timeout=10000"),
                *(f"--user-data-dir={tmp_path}", url),
            ],
            seconds=60,
        )
        if ":81" not in url:
            assert "It works" in done.stdout, done.stderr
    hello = agent.expect("tls_client_hello", sni="www.example.test")["fields"]
    # TLS 1.3 over TCP with a name, HTTP/2 offered first, a post-quantum group.
    assert hello["ja4"].startswith("t13d"), hello
    assert hello["ja4"][8:10] == "h2", hello
    assert hello["alpn"] == ["h2", "http/1.1"]
    assert hello["pq"]
    assert agent.stop() == 0
    assert named(agent) == []
    assert {event["fields"]["os_guess"] for event in agent.find("tcp_syn_fingerprint")} == {"linux"}
    assert_nothing_lost(agent)
