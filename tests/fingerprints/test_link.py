"""The kind of link, from the MSS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints import p0f, p0f_db
from deckwire.fingerprints.link import link, mtu
from deckwire.tcp.syn_packet import SynPacket
from tests.support.fingerprint_frames import syn, syn6


def with_mss(mss: int) -> bytes:
    return b"\x02\x04" + mss.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("syn_packet", "size", "label"),
    [
        (syn(options=with_mss(1460)), 1500, "Ethernet or modem"),
        (syn6(options=with_mss(1440)), 1500, "Ethernet or modem"),
        (syn(options=with_mss(1452)), 1492, "DSL or PPPoE"),
        (syn6(options=with_mss(1432)), 1492, "DSL or PPPoE"),
        (syn(options=with_mss(1360)), 1400, "generic tunnel or VPN"),
        (syn(options=with_mss(1380)), 1420, "WireGuard"),
        (syn(options=with_mss(1436)), 1476, "GRE or IPsec"),
        (syn(options=with_mss(1440)), 1480, "IP in IP or 6in4"),
        (syn6(options=with_mss(1220)), 1280, "smallest IPv6 link or tunnel"),
        (syn(options=with_mss(8960)), 9000, "jumbo Ethernet"),
        (syn(options=with_mss(65495)), 65535, "loopback"),
        (syn(options=with_mss(1234)), 1274, None),
        (syn(options=b""), None, None),
        (syn(options=with_mss(0)), None, None),
    ],
)
def test_an_mss_shows_mtu_and_link(
    syn_packet: SynPacket, size: int | None, label: str | None
) -> None:
    observation = p0f.observe(syn_packet)
    assert mtu(observation) == size
    assert link(observation, p0f_db.load_own().links) == label


@given(st.integers(1, 65535))
def test_the_ipv6_header_is_20_bytes_longer(mss: int) -> None:
    four = mtu(p0f.observe(syn(options=with_mss(mss))))
    six = mtu(p0f.observe(syn6(options=with_mss(mss))))
    assert four is not None
    assert six == four + 20
