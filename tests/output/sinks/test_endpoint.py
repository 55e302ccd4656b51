"""HOST:PORT, as users write it."""

from __future__ import annotations

import pytest

from deckwire.output.sinks.endpoint import endpoint_text, parse_endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("logs.example.com:514", ("logs.example.com", 514)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[::1]:65535", ("::1", 65_535)),
        ("[fe80::1%eth0]:601", ("fe80::1%eth0", 601)),
        ("[::ffff:192.0.2.1]:601", ("::ffff:192.0.2.1", 601)),
    ],
)
def test_an_endpoint_is_read_and_written_alike(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint
    assert endpoint_text(*endpoint) == text


@pytest.mark.parametrize("host", ["[.]", "[:]", "[1.2.3.4]", "[::1%]", "[::1%a b]", "[]", "[::1"])
def test_what_stands_in_brackets_is_an_ipv6_address(host: str) -> None:
    with pytest.raises(ValueError, match=r"write (one|an IPv6 address) as in \[::1\]:514"):
        parse_endpoint(f"{host}:514")
