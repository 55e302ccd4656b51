"""JA3 and JA4 of any valid hello: their format, and changes that must not affect them."""

from __future__ import annotations

import random
from dataclasses import replace

from deckwire.fingerprints import decnet, ja3, ja4
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import parse_client_hello
from tests.differential.hellos import random_client_hello
from tests.fuzz.material import DIGEST, JA4, client_hello_bodies


def seeds() -> list[bytes]:
    dice = random.Random(3)
    return [*client_hello_bodies(), *[random_client_hello(dice).body for _ in range(60)]]


def check(data: bytes) -> None:
    try:
        hello = parse_client_hello(data)
    except Malformed:
        return
    digest = ja3.ja3(hello)
    assert DIGEST.fullmatch(digest)
    assert ja3.ja3_full(hello).count(",") == 4
    found = ja4.ja4(hello)
    assert JA4.fullmatch(found), found
    assert ja4.ja4_o(hello)[:10] == ja4.ja4_r(hello)[:10] == ja4.ja4_ro(hello)[:10] == found[:10]
    old = decnet.ja4(hello)
    assert old.startswith("t")

    other = replace(hello, random=bytes(32), session_id=b"", trailing=0)
    assert (ja3.ja3(other), ja4.ja4(other), decnet.ja4(other)) == (digest, found, old)
    shuffled = replace(
        hello,
        cipher_suites=hello.cipher_suites[::-1],
        extensions=hello.extensions[::-1],
    )
    assert ja4.ja4(shuffled) == found
    greased = replace(
        hello,
        cipher_suites=(0x1A1A, *hello.cipher_suites),
        extensions=(*hello.extensions, (0xFAFA, b"")),
        supported_groups=(0x0A0A, *hello.supported_groups),
        signature_algorithms=(*hello.signature_algorithms, 0x2A2A),
    )
    assert (ja3.ja3(greased), ja4.ja4(greased)) == (digest, found)
