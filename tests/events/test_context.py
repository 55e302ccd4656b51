"""The context of a connection: decky, direction, addresses."""

from __future__ import annotations

import pytest

from deckwire.events.context import locate
from deckwire.tcp.community_id import community_id
from deckwire.tcp.flow import Ends
from tests.support.event_samples import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    OTHER_DECKY,
    REGISTRY,
    context,
    packed,
)


@pytest.mark.parametrize(
    ("client", "server", "host", "direction"),
    [
        (CLIENT, DECKY, "web-1", "inbound"),
        (DECKY, CLIENT, "web-1", "outbound"),
        (DECKY, OTHER_DECKY, "web-2", "lateral"),
        (CLIENT6, DECKY6, "web-6", "inbound"),
        (DECKY6, CLIENT6, "web-6", "outbound"),
    ],
)
def test_host_and_direction(client: str, server: str, host: str, direction: str) -> None:
    found = context(client, server)
    assert (found.host, found.direction) == (host, direction)
    assert found.addresses().fields == (
        ("src_ip", client),
        ("src_port", 40_000),
        ("dst_ip", server),
        ("dst_port", 443),
    )


def test_a_connection_without_a_decky_has_no_context() -> None:
    assert locate(REGISTRY, Ends(packed(CLIENT), 1, packed("203.0.113.5"), 2)) is None


def test_conn_id_is_the_community_id_of_both_directions() -> None:
    ends = context().ends
    expected = community_id(ends.client, ends.server, ends.client_port, ends.server_port)
    assert context().tail().fields == (("direction", "inbound"), ("conn_id", expected))
    back = locate(REGISTRY, Ends(ends.server, 443, ends.client, 40_000))
    assert back is not None
    assert back.conn_id == expected
