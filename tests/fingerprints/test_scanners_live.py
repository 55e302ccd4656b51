"""Real tools and clients run in network namespaces; tcpdump captures their SYNs at the target."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.identity import Identifier, Identity
from deckwire.lab.namespaces import PATIENCE_SECONDS
from tests.support.fingerprint_frames import Sent, sent_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"),
    pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed"),
]

ATTACKER, DECKY = "10.77.0.1", "10.77.0.2"
ATTACKER6, DECKY6 = "fd77::1", "fd77::2"
OPEN, CLOSED, SENTINEL = 8080, 8081, 9
LISTENER = f"""
import socket
server = socket.create_server(("::", {OPEN}), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
except OSError:
    pass
"""


def run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    return done.stdout


class Tap:
    """The SYN packets that arrive at an interface, captured by tcpdump."""

    def __init__(self, namespace: str, interface: str) -> None:
        command = f"ip netns exec {namespace} tcpdump -i {interface} -Q in --immediate-mode -U -w -"
        self._process = subprocess.Popen(
            [*command.split(), "tcp"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._buffer = b""
        # tcpdump writes the file header when it starts to capture.
        self._take(24)

    def until(self, port: int) -> list[Sent]:
        """Return the SYN packets before the next one to `port`."""
        seen: list[Sent] = []
        while True:
            length = struct.unpack_from("<I", self._take(16), 8)[0]
            sent = sent_in(self._take(length))
            if sent is None or not sent.is_syn:
                continue
            if sent.dport == port:
                return seen
            seen.append(sent)

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _take(self, size: int) -> bytes:
        assert self._process.stdout is not None
        while len(self._buffer) < size:
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)
            assert ready, "tcpdump saw nothing more"
            more = os.read(self._process.stdout.fileno(), 65536)
            assert more, "tcpdump ended"
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


class Lab:
    """Two namespaces with a veth pair between them, and a tap at the end of the target."""

    def __init__(self, attacker: str, target: str, mac: str, tap: Tap) -> None:
        self._attacker = attacker
        self._target = target
        self.mac = mac
        self._tap = tap

    def syns(self, *command: str) -> list[Sent]:
        """Run a command and return the SYN packets that it sends; fails if it sends none."""
        subprocess.run(
            ["ip", "netns", "exec", self._attacker, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,  # clients fail, because the port is closed or closes at once
        )
        # The SYN of this connection follows the last packet of the command.
        run("ip", "netns", "exec", self._attacker, *python(DECKY, SENTINEL))
        seen = self._tap.until(SENTINEL)
        assert seen, f"{command[0]} sent no SYN"
        return seen


def python(host: str, port: int) -> list[str]:
    return [sys.executable, "-c", CONNECT, host, str(port)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    attacker, target = f"dwp0f{os.getpid()}a", f"dwp0f{os.getpid()}t"
    with contextlib.ExitStack() as undo:
        for namespace in (attacker, target):
            run("ip", "netns", "add", namespace)
            undo.callback(run, "ip", "netns", "delete", namespace)
        peer = ["peer", "name", "dwp0ft", "netns", target]
        run("ip", "link", "add", "dwp0fa", "netns", attacker, "type", "veth", *peer)
        for namespace, interface, addresses in (
            (attacker, "dwp0fa", (f"{ATTACKER}/24", f"{ATTACKER6}/64")),
            (target, "dwp0ft", (f"{DECKY}/24", f"{DECKY6}/64")),
        ):
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                run("ip", "-n", namespace, "address", "add", address, "dev", interface, *nodad)
            run("ip", "-n", namespace, "link", "set", interface, "up")
        link = json.loads(run("ip", "-n", target, "-j", "link", "show", "dwp0ft"))[0]

        listener = subprocess.Popen(
            ["ip", "netns", "exec", target, sys.executable, "-c", LISTENER],
            stdout=subprocess.PIPE,
            text=True,
        )
        undo.callback(listener.communicate)
        undo.callback(listener.terminate)
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        tap = Tap(target, "dwp0ft")
        undo.callback(tap.close)
        yield Lab(attacker, target, link["address"], tap)


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def identities(sent: list[Sent]) -> list[Identity]:
    identifier = Identifier(p0f_db.load_own())
    return [identifier.identify(one.syn_packet, one.destination, one.dport) for one in sent]


def assert_tool(sent: list[Sent], name: str) -> None:
    for identity in identities(sent):
        assert identity.tool == name, identity
        assert identity.tool_evidence
        assert identity.os is None
        assert identity.os_guess == ("nmap" if name == "nmap" else "unknown")


@needs("nmap")
@pytest.mark.parametrize("target", [[DECKY], ["-6", DECKY6]])
def test_a_syn_scan_of_nmap_is_recognised(lab: Lab, target: list[str]) -> None:
    sent = lab.syns("nmap", "-n", "-Pn", "-sS", "-p", "20-30,8080", *target)
    assert len(sent) == 12
    assert_tool(sent, "nmap")


@needs("nmap")
def test_os_detection_of_nmap_is_recognised(lab: Lab) -> None:
    ports = f"{OPEN},{CLOSED}"
    sent = lab.syns("nmap", "-n", "-Pn", "-O", "--max-os-tries", "1", "-p", ports, DECKY)
    assert_tool(sent, "nmap")
    evidence = " ".join(str(identity.tool_evidence) for identity in identities(sent))
    for probe in [f"SEQ probe {number}" for number in range(1, 7)] + ["ECN probe", "T3", "T5"]:
        assert probe in evidence


@needs("masscan")
def test_masscan_is_recognised(lab: Lab) -> None:
    link = ["-e", "dwp0fa", "--router-mac", lab.mac]
    sent = lab.syns("masscan", "--rate", "200", "--wait", "0", "-p", "20-29", DECKY, *link)
    assert len(sent) == 10
    assert_tool(sent, "masscan")


@needs("zmap")
def test_zmap_is_recognised(lab: Lab) -> None:
    link = ["-i", "dwp0fa", "-G", lab.mac, "-S", ATTACKER]
    files = ["-C", "/dev/null", "-b", "/dev/null"]
    sent = lab.syns("zmap", "-p", "80", "-c", "0", "-r", "10", *link, *files, f"{DECKY}/32")
    assert_tool(sent, "zmap")


@needs("hping3")
@pytest.mark.parametrize("options", [[], ["--tcp-timestamp"]])
def test_hping_is_recognised(lab: Lab, options: list[str]) -> None:
    sent = lab.syns("hping3", "-S", "-c", "2", "-i", "u1000", "-p", "80", *options, DECKY)
    assert_tool(sent, "hping")
    assert "acknowledgment" in str(identities(sent)[0].tool_evidence)


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "-s", "-m", "2", f"http://{DECKY}:{OPEN}/"],
        ["curl", "-s", "-m", "2", f"http://[{DECKY6}]:{OPEN}/"],
        ["openssl", "s_client", "-connect", f"{DECKY}:{OPEN}"],
        ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "-p", str(OPEN), DECKY],
        [*python(DECKY, OPEN)],
        [*python(DECKY6, CLOSED)],
        # nmap -sT uses connect(), so its SYN packets are those of the kernel.
        ["nmap", "-n", "-Pn", "-sT", "-p", f"{OPEN},{CLOSED}", DECKY],
    ],
    ids=lambda command: os.path.basename(command[0]),
)
def test_a_client_is_identified_by_its_kernel(lab: Lab, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    for identity in identities(lab.syns(*command)):
        assert (identity.tool, identity.tool_evidence) == (None, None)
        assert identity.os_guess == "linux"
        assert identity.os == "Linux 5.x-6.x"
        assert identity.link == "Ethernet or modem"
