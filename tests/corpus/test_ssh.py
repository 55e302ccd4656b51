"""Banners, HASSH and HASSHServer of SSH connections equal those of independent tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fingerprint_frames import syns_of
from tests.support.protocols import PROTOCOLS, expected
from tests.support.replaying import ReplayLab
from tests.support.sequences import Four, sequence_fields

pytestmark = pytest.mark.root

FIELDS = {
    "hassh": ("ssh_client_banner", "hassh"),
    "hassh_server": ("ssh_server_banner", "hassh_server"),
    "banner_client": ("ssh_client_banner", "ssh_version"),
    "banner_server": ("ssh_server_banner", "ssh_version"),
}
"""Event and field of each expected value."""
REVERSED = "zeek-testing_btest_Traces_ssh_reverse-ssh.pcap"
"""The expected values take who opened the connection for the SSH client. But the other end sends
ECDH_INIT (message 30), and who opened it ECDH_REPLY: so the fields of both are swapped."""
SWAPPED = {
    "hassh": "hassh_server",
    "hassh_server": "hassh",
    "banner_client": "banner_server",
    "banner_server": "banner_client",
}


ENTRIES = expected("ssh")


@pytest.mark.skipif(not ENTRIES, reason="the captures of other protocols are not installed")
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_all_values_are_as_expected(name: str, lab: ReplayLab) -> None:
    deckies = sorted({entry["stream"]["dst"] for entry in ENTRIES[name]})
    found: dict[tuple[str, Four], dict[str, Any]] = {}
    for event in lab.capture(PROTOCOLS / "pcap" / name, deckies):
        fields = dict(event.fields)
        four: Any = tuple(fields.get(n) for n in ("src_ip", "src_port", "dst_ip", "dst_port"))
        found[event.name, four] = fields
    opened = sequence_fields(syns_of(PROTOCOLS / "pcap" / name))
    wrong = []
    for entry in ENTRIES[name]:
        kind = SWAPPED[entry["field"]] if name == REVERSED else entry["field"]
        event_name, field = FIELDS[kind]
        stream = entry["stream"]
        four = stream["src"], stream["sport"], stream["dst"], stream["dport"]
        value = found.get((event_name, four), {}).get(field)
        if four not in opened and value is None:
            # Only of connections whose SYN was seen is the beginning sampled.
            continue
        if value != entry["value"]:
            wrong.append(f"{four} {entry['field']}: {value!r}, not {entry['value']!r}")
    assert not wrong, "\n".join(wrong)
