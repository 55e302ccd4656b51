"""Protocols of first bytes are those that independent tools name, by bytes and not by port."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tests.support.declared import check_declared
from tests.support.fingerprint_frames import syns_of
from tests.support.protocols import PROTOCOLS, expected
from tests.support.replaying import ReplayLab
from tests.support.sequences import Four, sequence_fields

pytestmark = pytest.mark.root

OWN_EVENTS = {
    "tls": ("tls_client_hello",),
    "ssh": ("ssh_client_banner", "ssh_server_banner"),
    "http": ("http_request",),
}
"""Events of the protocols that are no tcp_payload."""

OFFLOADED = "ndpi-default_ipp.pcap"
"""The SYN has a right checksum and the request a wrong one, which the network card was to make. So
the request counts as refused, and the answer alone is there. With checksums off, all is there."""
MIDSTREAM = {
    "ndpi-default_bittorrent.pcap": 24,
    "ndpi-default_instagram.pcap": 1,
    "ndpi-default_dnscrypt-v2-doh.pcap": 2,
    "ndpi-default_tls_cipher_lens.pcap": 1,
    "ndpi-default_mqtt.pcap": 1,
    "ndpi-default_smbv1.pcap": 1,
    "ndpi-default_modbus.pcap": 1,
}
"""Connections by capture that lack a SYN: only of the others is the beginning sampled."""


ENTRIES = expected("protocol")


@pytest.mark.skipif(not ENTRIES, reason="the captures of other protocols are not installed")
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_all_protocols_are_as_expected(name: str, lab: ReplayLab) -> None:
    deckies = sorted({entry["stream"]["dst"] for entry in ENTRIES[name]})
    events = lab.capture(PROTOCOLS / "pcap" / name, deckies)
    check_declared([event for event in events if event.name == "tcp_payload"])
    found: dict[Four, set[str]] = defaultdict(set)
    for event in events:
        fields = dict(event.fields)
        four: Any = tuple(fields.get(n) for n in ("src_ip", "src_port", "dst_ip", "dst_port"))
        label = f" {fields.get('protocol')}" if event.name == "tcp_payload" else ""
        found[four].add(event.name + label)
    opened = sequence_fields(syns_of(PROTOCOLS / "pcap" / name))
    wrong, midstream = [], 0
    for entry in ENTRIES[name]:
        stream, value = entry["stream"], entry["value"]
        four = stream["src"], stream["sport"], stream["dst"], stream["dport"]
        payloads = {one for one in found[four] if one.startswith("tcp_payload")}
        if four not in opened and not payloads:
            midstream += 1
            continue
        if name == OFFLOADED:
            if payloads != {"tcp_payload http"}:
                wrong.append(f"{four}: {found[four]}")
        elif value in OWN_EVENTS:
            if payloads or not found[four].intersection(OWN_EVENTS[value]):
                wrong.append(f"{four} {value}: {found[four]}")
        elif payloads != {f"tcp_payload {value}"}:
            wrong.append(f"{four} {value}: {found[four]}")
    assert not wrong, "\n".join(wrong)
    assert midstream == MIDSTREAM.get(name, 0)
