"""scan_summary of real scanners: who probed what, in which way, and what was open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import pytest

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.network import CLIENT_INTERFACE
from deckwire.lab.servers import http_server
from tests.support.watching import LARGE_RINGS, assert_nothing_lost

pytestmark = pytest.mark.root

NMAP_DEFAULT = ("nmap", "-n", "-Pn", "-e", CLIENT_INTERFACE, "-S", "{source}")
NMAP = (*NMAP_DEFAULT, "-T4", "--max-retries", "1")
NMAP_FAST = (*NMAP_DEFAULT, "-T5", "--min-rate", "2000")
TCP = "22,80,443,8080"
"""80 is open on the first decky, 8080 on the second. So 12 targets of three deckies."""


class Scan(NamedTuple):
    """A scanner's command, and what the last event of its scan must say."""

    argv: Sequence[str]
    """``{source}`` is its address; ``{all}`` are the deckies, ``{first}`` is one."""
    expected: dict[str, Any]
    family: Literal["ipv4", "ipv6", "link-local"] = "ipv4"


def tcp(option: str, kind: str, nmap: Sequence[str] = NMAP, **expected: Any) -> Scan:
    """An nmap scan of all ports of all deckies."""
    found = {"kinds": {kind}, "ports": TCP, "deckies": 3, "targets": 12, "spread": "both"}
    return Scan((*nmap, option, "-p", TCP, "{all}"), found | expected)


def tcp6(option: str, kind: str, *, link: bool = False, **expected: Any) -> Scan:
    """The same over IPv6, where the client asks for link addresses too."""
    found = {"kinds": {kind}, "ports": TCP, "deckies": 3, "spread": "both"}
    argv = (*NMAP, "-6", option, "-p", TCP, "{all}")
    return Scan(argv, found | expected, "link-local" if link else "ipv6")


SILENT = {"open": 0, "closed": 10, "silent": 2}
"""Linux ignores these probes at an open port."""
OPEN = {"open": 2, "closed": 10, "silent": 0, "open_ports": "80,8080"}

# masscan 1.3.2 does not end after a scan over IPv6.
SCANS = {
    "nmap -sS": tcp("-sS", "syn", tool="nmap", **OPEN),
    "nmap -sF": tcp("-sF", "fin", **SILENT),
    "nmap -sN": tcp("-sN", "null", **SILENT),
    "nmap -sX": tcp("-sX", "xmas", **SILENT),
    "nmap -sM": tcp("-sM", "maimon"),
    "nmap -sA": tcp("-sA", "ack", open=0, closed=12),
    "nmap -sW": tcp("-sW", "ack", open=0, closed=12),
    "nmap -T5 --min-rate": tcp("-sS", "syn", NMAP_FAST, tool="nmap", **OPEN),
    "nmap at its default pace": tcp("-sS", "syn", NMAP_DEFAULT, tool="nmap", **OPEN),
    "nmap -6 -sS": tcp6("-sS", "syn", **OPEN),
    "nmap -6 -sF": tcp6("-sF", "fin", **SILENT),
    "nmap -6 -sS link-local": tcp6("-sS", "syn", link=True, **OPEN),
    "nmap -6 -sX link-local": tcp6("-sX", "xmas", link=True, **SILENT),
    "nmap -6 -sU link-local": Scan(
        (*NMAP, "-6", "-sU", "-p", "53,161", "{all}"),
        {"kinds": {"udp"}, "ports": "53,161", "deckies": 3, "open": 0, "closed": 6},
        "link-local",
    ),
    "nmap -sU": Scan(
        (*NMAP, "-sU", "-p", "53,161", "{all}"),
        {"kinds": {"udp"}, "ports": "53,161", "deckies": 3, "targets": 6, "open": 0},
    ),
    "nmap -sY": Scan(
        (*NMAP, "-sY", "-p", "2905,3868", "{all}"),
        {"kinds": {"sctp"}, "ports": "2905,3868", "targets": 6},
    ),
    "nmap -sO": Scan((*NMAP, "-sO", "-p", "47,50,89", "{all}"), {"kinds": {"other"}, "deckies": 3}),
    "masscan": Scan(
        (
            *("masscan", "--interface", CLIENT_INTERFACE, "--adapter-ip", "{source}"),
            *("--router-mac", "{mac}", "--rate", "1000", "--wait", "1", "-p", TCP, "{first}"),
        ),
        {"kinds": {"syn"}, "ports": TCP, "tool": "masscan", "spread": "vertical"},
    ),
    "zmap": Scan(
        (
            *("zmap", "-i", CLIENT_INTERFACE, "-S", "{source}", "-G", "{mac}", "-p", "80", "-q"),
            *("-c", "1", "-P", "2", "-r", "1000", "-o", "/dev/null", "--disable-syslog"),
            *("-b", "/dev/null"),
            "{all}",
        ),
        {"kinds": {"syn"}, "ports": "80", "tool": "zmap", "spread": "horizontal", "targets": 3},
    ),
    "hping3": Scan(
        ("hping3", "-S", "-c", "8", "-i", "u2000", "-p", "++8000", "-a", "{source}", "{first}"),
        {"kinds": {"syn"}, "ports": "8000-8007", "order": "sequential", "tool": "hping"},
    ),
    "arp-scan": Scan(
        # Twice: a probe that meets another CPU in the same set is counted, but not recorded.
        (
            *("arp-scan", "-q", "-I", CLIENT_INTERFACE, "--arpspa", "{source}", "-r", "1"),
            *("{all}", "{all}"),
        ),
        {"kinds": {"arp"}, "deckies": 3, "targets": 3, "spread": "horizontal"},
    ),
    "fping": Scan(
        ("fping", "-q", "-c", "2", "-S", "{source}", "{all}"),
        {"kinds": {"icmp_echo"}, "deckies": 3, "spread": "horizontal", "open": 3},
    ),
    "fping -6": Scan(
        ("fping", "-6", "-q", "-c", "2", "-S", "{source}", "{all}"),
        {"kinds": {"icmpv6"}, "deckies": 3, "open": 3},
        "ipv6",
    ),
    "fping -6 link-local": Scan(
        ("fping", "-6", "-q", "-c", "2", "-I", CLIENT_INTERFACE, "-S", "{source}", "{all}"),
        {"kinds": {"icmpv6"}, "deckies": 3, "open": 3},
        "link-local",
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """The scan_summary events of each scan that could be run."""
    with Lab(clients=len(SCANS)) as lab:
        web, mail, _ = lab.deckies
        http_server(lab, web)
        http_server(lab, mail, 8080)
        addresses = {
            "ipv4": [decky.v4 for decky in lab.deckies],
            "ipv6": [decky.v6 for decky in lab.deckies],
            "link-local": [link_local(lab, decky) for decky in lab.deckies],
        }
        links = zip(addresses["link-local"], lab.deckies, strict=True)
        options = [word for at, decky in links for word in ("--decky", f"{at}={decky.name}")]
        agent = AgentProcess(lab, options=["--dedup-ttl", "0", *LARGE_RINGS, *options])
        sources = {}
        for number, (name, scan) in enumerate(SCANS.items()):
            if shutil.which(scan.argv[0]) is None:
                continue
            sources[name] = source_of(lab, scan, number)
            run(lab, scan, sources[name], addresses[scan.family])
        assert agent.stop() == 0
        assert_nothing_lost(agent)
        summaries = [event["fields"] for event in agent.find("scan_summary")]
        yield {
            name: [fields for fields in summaries if fields["src_ip"] == source]
            for name, source in sources.items()
        }


def link_local(lab: Lab, node: Node) -> str:
    """The link-local address that the kernel has given a decky."""
    show = ["ip", "-j", "-6", "addr", "show", "dev", node.interface]
    (link,) = json.loads(lab.run(node, show).stdout)
    (found,) = [one["local"] for one in link["addr_info"] if one["scope"] == "link"]
    return str(found)


def source_of(lab: Lab, scan: Scan, number: int) -> str:
    """An address of the client that no other scan has."""
    if scan.family != "link-local":
        return (lab.client.ipv6 if scan.family == "ipv6" else lab.client.ipv4)[number]
    address = f"fe80::c:{number + 1:x}"
    add = ["ip", "-6", "addr", "add", f"{address}/64", "dev", CLIENT_INTERFACE, "nodad"]
    assert lab.run(lab.client, add).returncode == 0
    return address


def run(lab: Lab, scan: Scan, source: str, deckies: Sequence[str]) -> None:
    zone = f"%{CLIENT_INTERFACE}" if scan.family == "link-local" else ""
    argv: list[str] = []
    for word in scan.argv:
        if word == "{all}":
            argv += [decky + zone for decky in deckies]
        else:
            argv.append(word.format(source=source, first=deckies[0], mac=mac_of(lab)))
    done = lab.run(lab.client, argv)
    assert done.returncode == 0 or scan.argv[0] in ("hping3", "fping"), done.stderr


def mac_of(lab: Lab) -> str:
    """Scanners send all frames to this address: that of the first decky."""
    web = lab.deckies[0]
    done = lab.run(web, ["ip", "-j", "link", "show", web.interface])
    return str(json.loads(done.stdout)[0]["address"])


@pytest.mark.parametrize("name", SCANS)
def test_a_scan_has_its_author(found: dict[str, list[dict[str, Any]]], name: str) -> None:
    if name not in found:
        pytest.skip(f"not installed: {name.split(maxsplit=1)[0]}")
    summaries = found[name]
    assert summaries, "no event of this source"
    ended = summaries[-1]
    assert len({one["scan_id"] for one in summaries}) == 1
    phases = [one["phase"] for one in summaries]
    large = ended["targets"] >= 5
    assert phases == (["begun", "ended"] if large else ["ended"])
    expected = dict(SCANS[name].expected)
    assert expected.pop("kinds") <= set(ended["kinds"])
    assert {key: ended.get(key) for key in expected} == expected, ended
    assert ended["ports_exact"]
    assert ended["spoofable"]
    assert len(ended["src_mac"].split(":")) == 6
