from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.events.redaction import PREFIX, Redactor
from deckwire.limits import PAYLOAD_FIELD, PAYLOAD_SECRETS

KEY = bytes(range(32))
REDACTOR = Redactor(KEY, ("outbound",))


def stand_in(value: bytes) -> bytes:
    return b"hmac-sha256:" + hmac.new(KEY, value, "sha256").hexdigest().encode()


def test_a_stand_in_is_a_keyed_hash() -> None:
    assert REDACTOR.stand_in(b"secret").encode() == stand_in(b"secret")
    assert REDACTOR.stand_in(b"secret") != Redactor(bytes(32), ()).stand_in(b"secret")


@pytest.mark.parametrize(
    ("data", "ranges", "values", "expected"),
    [
        (b"PASS secret\r\n", [(5, 11)], [], b"PASS %s\r\n" % stand_in(b"secret")),
        (b"PASS secret", [(5, 11), (5, 11), (7, 9)], [], b"PASS %s" % stand_in(b"secret")),
        (b"ab", [(0, 1), (1, 2)], [], stand_in(b"a") + stand_in(b"b")),
        (b"ab", [(1, 1), (2, 2)], [], b"ab"),
        # What the other end repeats.
        (b"331 password of bobby, please", [], [b"bobby"], None),
        (b"login:root\n\xffroot\xff", [], [b"root"], None),
    ],
)
def test_ranges_and_values_are_replaced(
    data: bytes, ranges: list[tuple[int, int]], values: list[bytes], expected: bytes | None
) -> None:
    if expected is None:
        expected = data.replace(values[0], stand_in(values[0]))
    found = REDACTOR.data(data, ranges, values)
    assert (found.data, found.is_cut) == (expected, False)


def test_a_short_value_is_replaced_as_a_word_only() -> None:
    found = REDACTOR.data(b"a cat, a\r\n", [], [b"a", b""])
    assert found.data == b"%s cat, %s\r\n" % (stand_in(b"a"), stand_in(b"a"))


def test_too_many_end_the_bytes() -> None:
    data = b"".join(b"PASS p%d\r\n" % n for n in range(PAYLOAD_SECRETS + 3))
    ranges = [(at + 5, at + 7) for at in range(0, 9 * PAYLOAD_SECRETS + 9, 9)]
    found = REDACTOR.data(data, ranges, [])
    assert found.is_cut
    assert found.data.count(PREFIX.encode()) == PAYLOAD_SECRETS
    assert found.data.endswith(b"\r\nPASS ")


def test_a_cut_text_does_not_show_the_beginning_of_a_value() -> None:
    text = "AUTH " + "x" * (PAYLOAD_FIELD - 9) + "secr"
    shown = REDACTOR.text(text, [b"secret"])
    assert "secr" not in shown
    assert REDACTOR.text("AUTH secr", [b"secret"]) == "AUTH secr"


@given(
    st.binary(max_size=200),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20)), max_size=20),
)
def test_no_byte_of_a_range_is_left(data: bytes, places: list[tuple[int, int]]) -> None:
    ranges = [(min(at, len(data)), min(at + size, len(data))) for at, size in places]
    found = REDACTOR.data(data, ranges, [])
    kept = bytes(
        byte for at, byte in enumerate(data) if not any(start <= at < end for start, end in ranges)
    )
    rest, at = bytearray(), 0
    while at < len(found.data):
        if found.data.startswith(PREFIX.encode(), at) and data.find(PREFIX.encode()) < 0:
            at += len(PREFIX) + 64
        else:
            rest.append(found.data[at])
            at += 1
    assert kept.startswith(bytes(rest))
    assert found.is_cut or bytes(rest) == kept
