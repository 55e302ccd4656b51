"""tls.messages.parse_server_hello: the parsed values encode to the bytes they were parsed from."""

from __future__ import annotations

import random
import re

from deckwire.fingerprints import decnet, ja3, ja4plus
from deckwire.tls.errors import Malformed
from deckwire.tls.messages import is_early_draft, parse_server_hello
from tests.differential.hellos import random_server_hello
from tests.fuzz.lines import check_message
from tests.fuzz.material import DIGEST, JA4S, server_hello_bodies
from tests.support.flights import extension_block, u16, vector

_OLD_JA4S = re.compile(r"t..\d\d.._[0-9a-f]{12}", re.DOTALL)
"""The old sniffer copies the characters of the ALPN protocol; the output formats escape them."""


def seeds() -> list[bytes]:
    dice = random.Random(2)
    made = [random_server_hello(dice).body for _ in range(40)]
    return [*server_hello_bodies(), *made]


def check(data: bytes) -> None:
    try:
        hello = parse_server_hello(data)
    except Malformed as error:
        check_message(error.reason)
        return
    head = u16(hello.legacy_version) + hello.random
    if is_early_draft(hello.legacy_version):
        assert hello.session_id == b""
        head += u16(hello.cipher_suite)
    else:
        head += vector(1, hello.session_id) + u16(hello.cipher_suite)
        head += data[len(head) : len(head) + 1]  # the compression method, which is not kept
    if hello.extensions or len(data) > len(head):
        head += extension_block(*hello.extensions)
    assert head == data[: len(data) - hello.trailing]
    bodies = dict(hello.extensions)
    if hello.alpn is not None:
        assert bodies[16] == vector(2, vector(1, hello.alpn))
    if hello.selected_version is not None:
        assert bodies[43] == u16(hello.selected_version)

    assert DIGEST.fullmatch(ja3.ja3s(hello))
    assert JA4S.fullmatch(ja4plus.ja4s(hello)), ja4plus.ja4s(hello)
    assert ja4plus.ja4s_r(hello).isascii()
    assert _OLD_JA4S.fullmatch(decnet.ja4s(hello))
