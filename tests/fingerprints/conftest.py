"""Hello values made field by field: fingerprints are tested without the parsers."""

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
    "compression_methods": (0,),
    "server_name": None,
    "alpn": (),
    "supported_versions": (),
    "supported_groups": (),
    "ec_point_formats": (),
    "signature_algorithms": (),
    "key_share_groups": (),
    "session_ticket": None,
    "cut": False,
}

SERVER = {
    "legacy_version": 0x0303,
    "random": bytes(32),
    "session_id": b"",
    "malformed_extensions": (),
    "trailing": 0,
    "cipher_suite": 0xC030,
    "compression_method": 0,
    "selected_version": None,
    "alpn": None,
    "key_share_group": None,
}


@pytest.fixture
def client_hello() -> Callable[..., ClientHello]:
    """ClientHello from keyword arguments; `extensions` are types, their bodies do not matter."""

    def make(extensions=(), **fields) -> ClientHello:
        return ClientHello(**CLIENT | fields, extensions=tuple((kind, b"") for kind in extensions))

    return make


@pytest.fixture
def server_hello() -> Callable[..., ServerHello]:
    """ServerHello from keyword arguments; `extensions` are types."""

    def make(extensions=(), **fields) -> ServerHello:
        return ServerHello(**SERVER | fields, extensions=tuple((kind, b"") for kind in extensions))

    return make


@pytest.fixture
def chrome(client_hello) -> ClientHello:
    """The hello of the worked example in FoxIO's JA4 definition, in a plausible wire order."""
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
