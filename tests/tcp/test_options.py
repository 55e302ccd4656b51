from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.tcp.options import (
    SACK,
    alike,
    duplicate_block,
    mss,
    options_sig,
    read,
    sack_blocks,
    stamp,
    walk,
)

LINUX = bytes.fromhex("020405b4 0402 080a 01020304 00000000 01 030307")
MACOS = bytes.fromhex("020405b4 01 030306 01 01 080a 0a0b0c0d 00000000 0402 00 00")


def test_linux_syn():
    options = walk(LINUX)
    assert options.layout == options.kinds == (2, 4, 8, 1, 3)
    assert (options.mss, options.wscale, options.sack_permitted) == (1460, 7, True)
    assert options.timestamp == (0x01020304, 0)
    assert options.padding is None
    assert not options.padding_nonzero
    assert not options.malformed
    assert options_sig(options) == "M,S,T,N,W"


def test_every_zero_byte_from_the_marker_on_is_a_kind_but_one_letter():
    options = walk(MACOS)
    assert options.kinds == (2, 1, 3, 1, 1, 8, 4, 0, 0)
    assert options.layout == (2, 1, 3, 1, 1, 8, 4, 0)
    assert (options.padding, options.padding_nonzero) == (1, False)
    assert options_sig(options) == "M,N,W,N,N,T,S,E"


def test_no_options():
    options = walk(b"")
    assert options.kinds == ()
    assert (options.mss, options.wscale, options.timestamp) == (None, None, None)
    assert options_sig(options) == ""


def test_last_of_a_repeated_option_counts():
    options = walk(bytes.fromhex("020405b4 02040200 030301 030302"))
    assert (options.mss, options.wscale) == (512, 2)
    assert options_sig(options) == "M,M,W,W"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (LINUX, 0x01020304),
        (MACOS, 0x0A0B0C0D),
        (b"", 0),
        (LINUX[:12], 0),
        (bytes.fromhex("fe04080a 080a 00000007 00000000"), 7),
        (bytes.fromhex("00 080a 00000007 00000000"), 0),
        (bytes.fromhex("fe0c080a 00000007 00000000 0000"), 0),
        (bytes.fromhex("080a 00000007 00000000 080a 00000009 00000000"), 7),
    ],
)
def test_the_own_timestamp(raw, value):
    assert stamp(raw) == value


@given(st.binary(max_size=40))
def test_a_timestamp_is_that_of_the_walk(raw):
    options = walk(raw)
    if options.layout.count(8) < 2:
        assert stamp(raw) == (options.timestamp or (0, 0))[0]


@given(st.binary(max_size=40), st.booleans())
def test_the_mss_is_that_of_the_walk(raw, begins_with_it):
    options = bytes.fromhex("020405b4") + raw if begins_with_it else raw
    assert mss(options) == walk(options).mss


@pytest.mark.parametrize("options", [LINUX, MACOS, LINUX + bytes.fromhex("02040200"), b"\2\4\5"])
def test_the_last_mss_counts(options):
    assert mss(options) == walk(options).mss


def test_wscale_zero_differs_from_none():
    assert walk(bytes.fromhex("030300")).wscale == 0
    assert walk(b"\x01").wscale is None


def test_bytes_behind_the_marker():
    options = walk(bytes.fromhex("01 00 020405b4 00"))
    assert options.layout == (1, 0)
    assert options.kinds == (1, 0, 0)
    assert options.padding == 5
    assert options.padding_nonzero
    assert options.mss is None
    assert not options.malformed


@pytest.mark.parametrize(
    ("raw", "layout"),
    [
        ("02", (2,)),  # no room for the length
        ("0200", (2,)),
        ("0201", (2,)),
        ("0204 05", (2,)),  # past the end
        ("01 fd28 0000", (1, 253)),
        ("020405b4 0300 01", (2, 3)),
    ],
)
def test_a_length_that_cannot_be_followed_stops_the_walk(raw, layout):
    options = walk(bytes.fromhex(raw))
    assert options.malformed
    assert options.layout == layout


def test_a_wrong_length_that_can_be_followed_is_stepped_over():
    options = walk(bytes.fromhex("0205 05b4ff 0402 0302 080b 00000001 00000002 00"))
    assert options.malformed
    assert options.layout == (2, 4, 3, 8)
    assert (options.mss, options.wscale, options.timestamp) == (None, None, None)
    assert options.sack_permitted


def test_sack_has_room_for_whole_blocks():
    assert not walk(bytes.fromhex("050a") + bytes(8)).malformed
    assert not walk(bytes.fromhex("0522") + bytes(32)).malformed
    assert walk(bytes.fromhex("0502 0402")).malformed
    assert walk(bytes.fromhex("050b") + bytes(9)).malformed
    assert walk(bytes.fromhex("0502 0402")).layout == (5, 4)


def test_letters_of_the_rarer_kinds():
    raw = bytes.fromhex("050a 0000000100000002 0e03 01 0f02 1c04 0000 fe04 f989 13020000")
    assert options_sig(walk(raw)) == "S,A,A,U,?,?,E"


@given(st.binary(max_size=40))
def test_any_bytes_give_a_bounded_value(raw):
    options = walk(raw)
    assert len(options.kinds) <= len(raw)
    assert 0 not in options.layout[:-1]
    assert (options.padding is not None) == (options.layout[-1:] == (0,))
    assert options_sig(options).count(",") == max(len(options.layout) - 1, 0)


_OPTION = st.sampled_from(["01", "020405b4", "030307", "0402", "080a0000000100000002", "fe02"])


@given(st.lists(_OPTION, max_size=10))
def test_well_formed_options_keep_their_order(options):
    value = walk(bytes.fromhex("".join(options)))
    assert not value.malformed
    assert value.layout == tuple(int(option[:2], 16) for option in options)
    assert value.mss == (1460 if "020405b4" in options else None)


OPTIONS = st.one_of(
    st.just(b"\x01"),
    st.just(b"\x00"),
    st.binary(max_size=3),
    st.just(LINUX),
    st.just(b"\x08\x0a"),
    st.builds(
        lambda own, echoed: b"\x08\x0a" + own.to_bytes(4, "big") + echoed.to_bytes(4, "big"),
        st.sampled_from([0, 1, 0x080A, 0x080A080A, 1 << 31]),
        st.sampled_from([0, 1, 0x080A0000, 1 << 31]),
    ),
    st.builds(lambda mss: b"\x02\x04" + mss.to_bytes(2, "big"), st.sampled_from([0x080A, 1460])),
)


@given(st.lists(OPTIONS, max_size=8).map(b"".join), st.integers(0, 40))
def test_reading_is_walking_but_for_the_times(raw: bytes, length: int) -> None:
    raw = raw[:length]
    walked, seen = walk(raw), read(raw)
    assert seen._replace(timestamp=None) == walked._replace(timestamp=None)
    assert (seen.timestamp is None) == (walked.timestamp is None)
    if seen.timestamp is not None and walked.timestamp is not None:
        assert [bool(time) for time in seen.timestamp] == [bool(time) for time in walked.timestamp]
    assert len(alike(raw)) == len(raw)
    assert alike(alike(raw)) == alike(raw)


def test_options_of_one_stack_are_alike_whatever_the_time() -> None:
    later = LINUX.replace(bytes.fromhex("01020304"), bytes.fromhex("0a0b0c0d"))
    assert alike(later) == alike(LINUX)
    unset = LINUX.replace(bytes.fromhex("01020304"), bytes(4))
    assert alike(unset) == unset
    echoing = LINUX.replace(bytes.fromhex("01020304 00000000"), bytes.fromhex("01020304 00000009"))
    assert len({alike(LINUX), alike(unset), alike(echoing)}) == 3


def sack(*blocks: tuple[int, int]) -> bytes:
    raw = b"".join(pack(">II", *block) for block in blocks)
    return b"\x01\x01" + bytes((SACK, 2 + len(raw))) + raw


@pytest.mark.parametrize(
    ("raw", "blocks"),
    [
        (b"", ()),
        (sack((1, 2)), ((1, 2),)),
        (b"\x01\x01\x08\x0a" + bytes(8) + sack((1, 2), (3, 4)), ((1, 2), (3, 4))),
        (sack((1, 2))[:-1], ()),
        (b"\x05\x09" + bytes(7) + sack((1, 2)), ((1, 2),)),
        (b"\0" + sack((1, 2)), ()),
        (b"\x05", ()),
        (b"\x05\x00" + bytes(8), ()),
    ],
)
def test_sack_blocks(raw: bytes, blocks: tuple[tuple[int, int], ...]) -> None:
    assert sack_blocks(raw) == blocks


@pytest.mark.parametrize(
    ("blocks", "duplicate"),
    [
        ((), None),
        (((110, 120),), None),
        (((90, 100),), (90, 100)),
        (((90, 101),), None),
        (((110, 120), (110, 130)), (110, 120)),
        (((110, 120), (112, 130)), None),
        (((110, 120), (130, 140)), None),
    ],
)
def test_which_block_came_twice(
    blocks: tuple[tuple[int, int], ...], duplicate: tuple[int, int] | None
) -> None:
    def wrapped(start: int, end: int) -> tuple[int, int]:
        return (start - 105) & 0xFFFF_FFFF, (end - 105) & 0xFFFF_FFFF

    found = duplicate_block((100 - 105) & 0xFFFF_FFFF, tuple(wrapped(*each) for each in blocks))
    assert found == (duplicate and wrapped(*duplicate))
