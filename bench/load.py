"""Bulk traffic that runs while something else is measured."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from bench import cpu
from deckwire.lab import Lab, Node
from deckwire.lab.namespaces import wait_until
from deckwire.lab.servers import is_listening

_PORT = 5_202


@contextlib.contextmanager
def bulk(lab: Lab, decky: Node, options: tuple[str, ...] = ()) -> Iterator[None]:
    """Run one iperf3 transfer from the client to a decky, unpaced unless `options` pace it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = lab.popen(decky, ["iperf3", "-s", "-1", "-p", str(_PORT)], **quiet)
    cpu.pin(server.pid, cpu.SERVERS)
    wait_until(lambda: is_listening(server.pid, _PORT), "iperf3 listens")
    argv = ["iperf3", "-c", decky.v4, "-p", str(_PORT), "-t", "86400", *options]
    client = lab.popen(lab.client, argv, **quiet)
    cpu.pin(client.pid, cpu.CLIENTS)
    start = _received(decky)
    wait_until(lambda: _received(decky) - start > 10_000_000, "bulk passes")
    try:
        yield
    finally:
        for process in (client, server):
            process.terminate()
            process.wait()


def _received(decky: Node) -> int:
    with decky.inside(), open("/proc/thread-self/net/dev") as counters:
        line = next(line for line in counters if decky.interface in line)
    return int(line.split(":")[1].split()[0])
