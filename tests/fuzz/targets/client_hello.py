"""tls.messages.parse_client_hello: the parsed values encode to the bytes they were parsed from."""

from __future__ import annotations

import random

from deckwire.tls.errors import Malformed
from deckwire.tls.messages import ClientHello, parse_client_hello
from tests.differential.hellos import random_client_hello
from tests.fuzz.lines import check_message
from tests.fuzz.material import client_hello_bodies
from tests.support.flights import extension_block, u16, vector


def seeds() -> list[bytes]:
    dice = random.Random(1)
    made = [random_client_hello(dice).body for _ in range(40)]
    return [bytes([n]) + body for n, body in enumerate([*client_hello_bodies(), *made])]


def check(data: bytes) -> None:
    cut_at, body = (data[0] if data else 0), data[1:]
    try:
        hello = parse_client_hello(body)
    except Malformed as error:
        check_message(error.reason)
        hello = None
    else:
        _check_exact(hello, body)
    start = body[: len(body) * cut_at // 256]
    try:
        cut = parse_client_hello(start, cut=True)
    except Malformed as error:
        check_message(error.reason)
        # A valid hello can be parsed before any cut after the random value.
        assert hello is None or len(start) < 34
        return
    assert cut.cut
    if hello is not None:
        _check_prefix(cut, hello)


def _check_exact(hello: ClientHello, body: bytes) -> None:
    head = (
        u16(hello.legacy_version)
        + hello.random
        + vector(1, hello.session_id)
        + vector(2, u16(*hello.cipher_suites))
    )
    # The compression methods are not kept.
    head += vector(1, body[len(head) + 1 : len(head) + 1 + body[len(head)]])
    if hello.extensions or len(body) > len(head):
        head += extension_block(*hello.extensions)
    assert head == body[: len(body) - hello.trailing]
    assert len(hello.random) == 32
    assert not hello.cut
    assert set(hello.malformed_extensions) <= {kind for kind, _ in hello.extensions}
    bodies = dict(hello.extensions)
    for kind, parsed in (
        (0, hello.server_name),
        (10, hello.supported_groups),
        (11, hello.ec_point_formats),
        (13, hello.signature_algorithms),
        (16, hello.alpn),
        (43, hello.supported_versions),
    ):
        assert not parsed or kind in bodies
        assert not parsed or kind not in hello.malformed_extensions
    if hello.server_name:
        assert hello.server_name in bodies[0]
    if hello.alpn:
        assert bodies[16] == vector(2, b"".join(vector(1, name) for name in hello.alpn))
    if hello.supported_versions:
        assert bodies[43] == vector(1, u16(*hello.supported_versions))
    if hello.signature_algorithms:
        assert bodies[13] == vector(2, u16(*hello.signature_algorithms))


def _check_prefix(cut: ClientHello, hello: ClientHello) -> None:
    assert (cut.legacy_version, cut.random) == (hello.legacy_version, hello.random)
    assert hello.session_id.startswith(cut.session_id)
    for name in ("cipher_suites", "extensions"):
        part, whole = getattr(cut, name), getattr(hello, name)
        assert part == whole[: len(part)]
