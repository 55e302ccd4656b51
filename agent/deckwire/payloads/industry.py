"""Modbus and S7comm: what a client asks of a controller."""

from __future__ import annotations

from contextlib import suppress

from deckwire.limits import PAYLOAD_LIST
from deckwire.payloads.cursor import Cursor, Cut
from deckwire.payloads.finding import Field, Finding

# --- Modbus (MODBUS Messaging on TCP/IP, 3.1.3) ---

_LENGTHS = range(2, 255)
_FUNCTIONS = range(1, 128)


def read_modbus(client: bytes, _server: bytes) -> Finding | None:
    """Read unit and functions; None if the first header cannot be one of Modbus."""
    unit: int | None = None
    functions: list[str] = []
    cursor = Cursor(client)
    with suppress(Cut):
        while len(functions) < PAYLOAD_LIST:
            cursor.take(2)
            protocol, length = cursor.number(2), cursor.number(2)
            end = cursor.at + length
            found, function = cursor.number(1), cursor.number(1)
            if protocol or length not in _LENGTHS or function not in _FUNCTIONS:
                break
            unit = found if unit is None else unit
            functions.append(str(function))
            cursor.at = end
    if unit is None:
        return None
    return Finding((("modbus_unit", unit), ("modbus_functions", tuple(functions))))


# --- S7comm, in ISO 8073 on TCP (RFC 1006) ---

_CONNECT, _DATA = 0xE0, 0xF0
_CALLED = 0xC2
_S7, _JOB, _USER_DATA = 0x32, 1, 7


def read_s7(client: bytes, _server: bytes) -> Finding | None:
    """Read the called TSAP, which has rack and slot, and functions; None if it is none of S7."""
    fields: list[Field] = []
    functions: list[str] = []
    is_s7 = False
    cursor = Cursor(client)
    with suppress(Cut):
        while len(functions) < PAYLOAD_LIST and cursor.number(1) == 3:
            start = cursor.at - 1
            cursor.take(1)
            end = start + max(cursor.number(2), 4)
            cursor.take(1)
            kind = cursor.number(1)
            if kind == _CONNECT:
                cursor.take(5)
                tsap = _called(client[cursor.at : end])
                is_s7 = True
                if tsap and not fields:
                    fields.append(("s7_tsap", tsap))
            elif kind == _DATA:
                cursor.take(1)
                if cursor.number(1) != _S7:
                    break
                is_s7 = True
                job = cursor.number(1)
                cursor.take(8)
                if job == _JOB:
                    functions.append(f"0x{cursor.number(1):02x}")
                elif job == _USER_DATA:
                    functions.append("userdata")
            cursor.at = end
    if functions:
        fields.append(("s7_functions", tuple(functions)))
    return Finding(tuple(fields)) if is_s7 else None


def _called(parameters: bytes) -> str:
    """The called TSAP in hexadecimal; "" if there is none."""
    cursor = Cursor(parameters)
    with suppress(Cut):
        while True:
            code, value = cursor.number(1), cursor.take(cursor.number(1))
            if code == _CALLED:
                return value[:8].hex()
    return ""
