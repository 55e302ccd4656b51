"""Hello values built field by field, to test fingerprints without the parsers."""

from collections.abc import Callable

import pytest

from deckwire.tls.messages import ClientHello, ServerHello

CLIENT = {
    "legacy_version": 0x0303,
    "random": bytes(32),
    "session_id": b"",
    "malformed_extensions": (),
    "trailing": 0,
    "cipher_suites": (0x1301, 0x1302),
    "server_name": None,
    "alpn": (),
    "supported_versions": (),
    "supported_groups": (),
    "ec_point_formats": (),
    "signature_algorithms": (),
    "has_session_ticket": False,
    "cut": False,
}

SERVER = {
    "legacy_version": 0x0303,
    "random": bytes(32),
    "session_id": b"",
    "trailing": 0,
    "cipher_suite": 0xC030,
    "selected_version": None,
    "alpn": None,
}


@pytest.fixture
def client_hello() -> Callable[..., ClientHello]:
    """Make a ClientHello from keyword arguments; `extensions` are types, their bodies are empty."""

    def make(extensions=(), **fields) -> ClientHello:
        fields = CLIENT | fields
        fields["cipher_suites"] = tuple(fields["cipher_suites"])
        return ClientHello(**fields, extensions=tuple((kind, b"") for kind in extensions))

    return make


@pytest.fixture
def server_hello() -> Callable[..., ServerHello]:
    """Make a ServerHello from keyword arguments; `extensions` are types."""

    def make(extensions=(), **fields) -> ServerHello:
        return ServerHello(**SERVER | fields, extensions=tuple((kind, b"") for kind in extensions))

    return make


@pytest.fixture
def chrome(client_hello) -> ClientHello:
    """Return the hello of the example in FoxIO's JA4 definition, in a plausible wire order."""
    return client_hello(
        cipher_suites=(
            *(0x0A0A, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030),
            *(0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035),
        ),
        extensions=(
            *(0x2A2A, 0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D),
            *(0x0005, 0x0023, 0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0x0015),
        ),
        alpn=(b"h2", b"http/1.1"),
        supported_versions=(0xFAFA, 0x0304, 0x0303),
        supported_groups=(0x3A3A, 29, 23, 24),
        ec_point_formats=(0,),
        signature_algorithms=(*(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),),
        server_name=b"example.com",
    )
