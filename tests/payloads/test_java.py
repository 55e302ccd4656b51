from __future__ import annotations

import pytest

from deckwire.payloads.java import read_rmi, read_t3
from tests.support.payload_wire import JRMI


@pytest.mark.parametrize(("byte", "name"), [(b"K", "stream"), (b"L", "single_op")])
def test_rmi(byte: bytes, name: str) -> None:
    assert read_rmi(JRMI[:-1] + byte, b"").fields == (("rmi_protocol", name),)


def test_serialized_objects_are_seen() -> None:
    assert ("java_objects", True) in read_rmi(JRMI + b"P\xac\xed\0\5w", b"").fields
    assert ("java_objects", True) in read_t3(b"t3 12.1.2\nAS:2\n\n\xac\xed\0\5", b"").fields


def test_t3() -> None:
    assert read_t3(b"t3 12.2.1.4.0\r\nAS:255\r\n", b"").fields == (("t3_version", "12.2.1.4.0"),)
