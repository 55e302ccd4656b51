from __future__ import annotations

import pytest

from deckwire.payloads.industry import read_modbus, read_s7
from tests.support.payload_wire import modbus, s7_connect, s7_job, tpkt


def test_modbus() -> None:
    found = read_modbus(modbus(3, unit=9) + modbus(43) + modbus(16)[:-3], b"")
    assert found is not None
    assert dict(found.fields) == {"modbus_unit": 9, "modbus_functions": ("3", "43", "16")}


@pytest.mark.parametrize("client", [b"", b"\0\1\0\1\0\6\1\3", b"\0\1\0\0\0\1\1\3", modbus(0x83)])
def test_other_bytes_are_no_modbus(client: bytes) -> None:
    assert read_modbus(client, b"") is None


def test_s7() -> None:
    userdata = tpkt(b"\2\xf0\x80\x32\7" + bytes(12))
    found = read_s7(s7_connect(b"\1\2") + s7_job(0xF0) + s7_job(4) + userdata, b"")
    assert found is not None
    assert dict(found.fields) == {
        "s7_tsap": "0102",
        "s7_functions": ("0xf0", "0x04", "userdata"),
    }


def test_two_requests_for_a_connection_have_one_tsap() -> None:
    found = read_s7(s7_connect(b"\1\2") + s7_connect(b"\1\3"), b"")
    assert found is not None
    assert found.fields == (("s7_tsap", "0102"),)


@pytest.mark.parametrize("client", [b"", tpkt(b"\2\xf0\x80\x72"), b"\2"])
def test_other_bytes_are_no_s7(client: bytes) -> None:
    assert read_s7(client, b"") is None
