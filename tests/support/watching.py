"""Clients for the live tests, agents with a changed load request, and checks of their sums."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from deckwire.abi import structs as abi
from deckwire.events.event import STAMP
from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.namespaces import PATIENCE_SECONDS, wait_until
from deckwire.lab.network import PARENT
from deckwire.resilience.containment import Where
from deckwire.tcp.addresses import MAPPED_PREFIX
from deckwire.tcp.community_id import community_id
from tests.support.live_wire import Flow

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

LARGE_RINGS = ("--ring-kb", "8192")
"""With rings of the default size, samples are lost if a busy machine lets the agent wait."""

EVERYTHING = ("--dedup-ttl", "0", "--scan-targets", "0", *LARGE_RINGS)
"""Options with which every event of a connection is emitted.

Scans are not reported, because their events are about no connection.
"""

PROGRAM = (sys.executable, "-P", "-m", "deckwire")

_WITH_REQUEST = """
import json, sys
from deckwire.kernel import loading
fields = json.loads(sys.argv.pop(1))
made = loading.LoadRequest
loading.LoadRequest = lambda **others: made(**{**others, **fields})
from deckwire.cli import main
main()
"""


def with_request(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The command for `deckwire` whose LoadRequest has these fields."""
    return (sys.executable, "-P", "-c", _WITH_REQUEST, json.dumps(request))


def agent_with(
    request: Mapping[str, Any],
    lab: Lab,
    interface: str = PARENT,
    options: Sequence[str] = EVERYTHING,
) -> AgentProcess:
    """Start an agent whose LoadRequest has these fields, which no command-line option sets."""
    return AgentProcess(lab, interface, options, program=with_request(request))


class SyslogAgent:
    """`deckwire run` as an operator starts it. Its output goes to files."""

    def __init__(
        self, lab: Lab, folder: Path, *options: str, program: Sequence[str] = PROGRAM
    ) -> None:
        self.printed = folder / "stdout"
        self.messages = folder / "stderr"
        with self.printed.open("wb") as stdout, self.messages.open("wb") as stderr:
            self.process: subprocess.Popen[bytes] = lab.popen(
                None,
                [
                    *(*program, "run", "-i", PARENT),
                    *("--netns", lab.host.netns, "--deckies", str(lab.deckies_file())),
                    *options,
                ],
                stdout=stdout,
                stderr=stderr,
            )
        wait_until(lambda: "ready" in self.messages.read_text(), "the agent is ready")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_SECONDS) == 0, self.messages.read_text()


def lines_of(path: Path) -> list[bytes]:
    *lines, rest = path.read_bytes().split(b"\n")
    assert rest == b""
    return lines


def client_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client context for this TLS version only, which accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


def fetch(
    node: Node,
    address: str,
    port: int = 443,
    *,
    context: ssl.SSLContext | None = None,
    name: str = "www.example.test",
    source: str | None = None,
) -> Flow:
    """Make a TLS connection from `node` that both ends close with FIN. Returns its 4-tuple."""
    context = context or client_context(TLS13)
    with node.connect(address, port, source) as plain:
        mine, my_port = plain.getsockname()[:2]
        # No close_notify: the server has closed by then and would reply with RST.
        with context.wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=True) as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while tls.recv(65_536):
                pass
    return mine, my_port, address, port


def fetch_plain(
    node: Node,
    address: str,
    port: int = 80,
    source: str | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> Flow:
    """Make an HTTP connection from `node` that ends with FIN. Returns its 4-tuple.

    `seconds` is the longest wait for any step of it.
    """
    with node.connect(address, port, source, seconds) as connection:
        mine, my_port = connection.getsockname()[:2]
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(65_536):
            pass
    return mine, my_port, address, port


def conn_id(flow: Flow) -> str:
    """The Community ID of the connection, as in the field conn_id of its events."""
    client, client_port, server, server_port = flow
    return community_id(_packed(client), _packed(server), client_port, server_port)


def _packed(address: str) -> bytes:
    parsed = ip_address(address)
    return parsed.packed if parsed.version == 6 else MAPPED_PREFIX + parsed.packed


def time_ns(event: JsonEvent) -> int:
    """The time of the event in nanoseconds since the epoch, exact to a microsecond."""
    at = datetime.fromisoformat(event["ts"])
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000


def counted(agent: AgentProcess, **fields: object) -> Counter[str]:
    """The number of events with these fields, by name of the event."""
    wanted = fields.items()
    return Counter(
        event["event"]
        for event in list(agent.events)
        if all(event["fields"].get(name) == value for name, value in wanted)
    )


def final_sums(agent: AgentProcess) -> dict[str, int]:
    """The counters in the last capture_stats of an agent that has ended.

    They are in several events if one line has no room for all.
    """
    sums: dict[str, Any] = {}
    for event in agent.find("capture_stats"):
        if event["fields"].get("part", 1) == 1:
            sums = {}
        sums |= event["fields"]
    return {name: count for name, count in sums.items() if name not in STAMP}


def assert_conserved(sums: Mapping[str, int]) -> None:
    """Assert that the sums add up, as they must after the programs were detached."""
    counted = sum(sums[name] for name in abi.FRAME_COUNTERS)
    assert sums["frames"] == counted - sums["packets_reassembled"]
    assert sums["samples_wanted"] == sums["samples_submitted"] + sums["samples_lost"]
    assert sums["samples_received"] == sums["samples_submitted"]
    rejected = sum(n for name, n in sums.items() if name.startswith("samples_rejected_"))
    assert sums["samples_received"] == sums["samples_decoded"] + rejected
    assert sums["events_made"] == sum(
        sums[f"events_{fate}"] for fate in ("emitted", "suppressed", "filtered", "dropped")
    )
    assert sums["frames_syn"] >= (
        sums["syn_retransmits"] + sums["syn_suppressed"] + sums["syn_over_budget"]
    )
    assert sums["half_open_inserts"] >= sums["half_open_deletes"] + sums["half_open_evicted"]
    assert sums["midstream_inserts"] >= sums["midstream_deletes"] + sums["midstream_evicted"]
    assert sums["handshakes"] == sums["flow_inserts"] + sums["flow_reopened"], sums


def assert_nothing_lost(agent: AgentProcess) -> dict[str, int]:
    """Assert that the sums of an agent that has ended add up and that it lost nothing.

    `tls_over_budget` is not a loss here, because bulk data other than TLS raises it too.
    """
    sums = final_sums(agent)
    assert_conserved(sums)
    lost = {
        name: count
        for name, count in sums.items()
        if count
        and not name.endswith(("_offered", "_written", "_queued", "_filtered"))
        and (
            name in tuple(Where)
            or name.startswith(("samples_lost", "samples_rejected_", "output_", "events_dropped"))
        )
    }
    lost |= {
        name: sums[name]
        for name in (
            *("half_open_failed", "flow_insert_failed", "flow_source_capped", "midstream_failed"),
            *("tls_not_admitted", "tls_evicted", "tls_misplaced", "tls_malformed"),
            *("rings_corrupt", "samples_late", "dedup_summaries_lost"),
            *("half_open_evicted", "midstream_evicted"),
        )
        if sums[name]
    }
    assert lost == {}, lost
    assert agent.find("capture_loss") == []
    return sums
