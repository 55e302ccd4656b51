"""Every fingerprint of every TCP stream of the shared corpus, against independent tools."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from deckwire.events.event import Event
from tests.support.replaying import ReplayLab
from tests.support.shared_corpus import CORPUS, captures, expected

pytestmark = pytest.mark.root

FIELDS = (
    *("ja3", "ja3s", "ja4", "ja4_r", "ja4_o", "ja4_ro", "ja4s", "ja4s_r", "ja4x"),
    *("ja4t", "ja4ts", "ja4l_c", "ja4l_s", "sni", "alpn"),
)

TUNNELS = {
    "foxio-gre-erspan-vxlan.pcap": "GRE, ERSPAN, VXLAN",
    "ndpi-6in4tunnel.pcap": "6in4",
    "ndpi-false_positives.pcapng": "GTP",
    "ndpi-http_origin_different_than_host.pcap": "GTP",
    "ndpi-tls_change_cipher.pcap": "GTP",
}
"""Captures whose connections are inside a tunnel: no decky's address stands in the outer header."""

UNTOLD = {
    # A SYN-ACK that no ACK followed and no TLS: no event of the contract carries it.
    ("made1-synack-retransmit-rst.pcap", 0): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 12): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 18): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 20): ("ja4ts", "ja4l_s"),
    ("ndpi-sites.pcapng", 28): ("ja4ts", "ja4l_s"),
    ("ndpi-whatsapp_login_call.pcap", 12): ("ja4ts", "ja4l_s"),
    # Its ClientHello comes in IP fragments, which are counted and never guessed at.
    ("made1-ipv4-fragments.pcap", 0): (*("ja3", "ja4", "ja4_r", "ja4_o", "ja4_ro", "sni", "alpn"),),
}
"""Known differences: capture, stream, fields."""


def told(events: list[Event]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What the events said of each 4-tuple, first value first; ja4x of all certificates."""
    streams: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(dict)
    for event in events:
        fields = dict(event.fields)
        four = tuple(fields[name] for name in ("src_ip", "src_port", "dst_ip", "dst_port"))
        stream = streams[four]
        for name, value in fields.items():
            if name == "ja4x_chain":
                stream.setdefault("ja4x", []).extend(value)
            elif name in {"sni", "alpn"} and event.name != "tls_client_hello":
                continue
            elif name != "ja4x":
                stream.setdefault(name, value)
    return streams


def comparable(value: Any) -> Any:
    """The corpus writes protocol names as Latin-1, events keep their bytes."""
    if isinstance(value, tuple):
        return [text.encode("utf-8", "surrogateescape").decode("latin-1") for text in value]
    return value


def differences(name: str, lab: ReplayLab) -> tuple[list[str], dict[str, int]]:
    """Lines about fields that are not as expected, and how many of each were right."""
    document = expected(name)
    streams = [s for s in document["streams"] if s["transport"] == "tcp"]
    events = lab.capture(CORPUS / "pcap" / name, sorted({s["dst"] for s in streams}))
    found = told(events)
    wrong: list[str] = []
    right: dict[str, int] = defaultdict(int)
    for stream in streams:
        got = found[stream["src"], stream["sport"], stream["dst"], stream["dport"]]
        for field in FIELDS:
            if field not in stream:
                continue
            accepted = [stream[field]]
            accepted += [entry["value"] for entry in stream.get("accept", {}).get(field, [])]
            value = comparable(got.get(field))
            if value in accepted:
                right[field] += 1
            elif field not in UNTOLD.get((name, stream["stream"]), ()):
                wrong.append(f"stream {stream['stream']}: {field}={value!r}, not {accepted[0]!r}")
    return wrong, right


@pytest.mark.skipif(not captures(), reason="the shared corpus is not beside this checkout")
@pytest.mark.parametrize("name", [name for name in captures() if name not in TUNNELS])
def test_every_field_of_every_stream(
    name: str, lab: ReplayLab, score: dict[str, dict[str, int]]
) -> None:
    wrong, right = differences(name, lab)
    score[name] = right
    assert not wrong, "\n".join([name, *wrong])


@pytest.mark.skipif(not captures(), reason="the shared corpus is not beside this checkout")
@pytest.mark.parametrize("name", sorted(TUNNELS))
def test_tunnels_do_no_harm(name: str, lab: ReplayLab) -> None:
    differences(name, lab)
    assert lab.last is not None
    sums = lab.last.stats.sums()
    assert sums["samples_lost"] == 0
    assert sums["samples_received"] == sums["samples_submitted"]


@pytest.mark.skipif(not captures(), reason="the shared corpus is not beside this checkout")
def test_known_differences_are_differences(lab: ReplayLab) -> None:
    """A difference that has gone must leave the list."""
    for (name, number), fields in UNTOLD.items():
        stream = next(
            s
            for s in expected(name)["streams"]
            if s["transport"] == "tcp" and s["stream"] == number
        )
        events = lab.capture(CORPUS / "pcap" / name, [stream["dst"]])
        got = told(events)[stream["src"], stream["sport"], stream["dst"], stream["dport"]]
        for field in fields:
            assert field not in got, (name, number, field)
