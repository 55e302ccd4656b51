"""ja4_stable equals that of independent tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.protocols import PROTOCOLS, expected
from tests.support.replaying import ReplayLab
from tests.support.sequences import Four

pytestmark = pytest.mark.root

ENTRIES = expected("stable")


@pytest.mark.skipif(not ENTRIES, reason="the captures of other protocols are not installed")
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_all_values_are_as_expected(name: str, lab: ReplayLab) -> None:
    deckies = sorted({entry["stream"]["dst"] for entry in ENTRIES[name]})
    found: dict[Four, dict[str, Any]] = {}
    for event in lab.capture(PROTOCOLS / "pcap" / name, deckies):
        if event.name == "tls_client_hello":
            fields = dict(event.fields)
            four: Any = tuple(fields[n] for n in ("src_ip", "src_port", "dst_ip", "dst_port"))
            found[four] = fields
    for entry in ENTRIES[name]:
        # Of these extensions, by number.
        assert entry["drop"] == "0015 0023 0029 002a"
        stream = entry["stream"]
        fields = found[stream["src"], stream["sport"], stream["dst"], stream["dport"]]
        assert (fields["ja4"], fields["ja4_stable"]) == (entry["ja4"], entry["value"])
