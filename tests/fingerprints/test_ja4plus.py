"""The methods of JA4+."""

import pytest

from deckwire.fingerprints.ja4plus import ja4l, ja4s, ja4s_r, ja4t, ja4x
from deckwire.tcp.options import walk


def test_ja4s_of_examples(server_hello):
    hello = server_hello(cipher_suite=0xC030, extensions=(0x0005, 0x0017, 0xFF01, 0x0000))
    assert ja4s(hello) == "t120400_c030_4e8089b08790"
    assert ja4s_r(hello) == "t120400_c030_0005,0017,ff01,0000"
    hello = server_hello(cipher_suite=0x1301, extensions=(0x33, 0x2B), selected_version=0x0304)
    assert ja4s(hello) == "t130200_1301_234ea6891581"


def test_ja4s_may_have_no_extensions(server_hello):
    hello = server_hello(legacy_version=0x0301, cipher_suite=4)
    assert ja4s(hello) == "t100000_0004_000000000000"
    assert ja4s_r(hello) == "t100000_0004_"


def test_ja4s_keeps_order_and_removes_grease(server_hello):
    hello = server_hello(extensions=(0x10, 0x0A0A, 0x0000), alpn=b"http/1.1")
    assert ja4s_r(hello) == "t1202h1_c030_0010,0000"


def test_ja4s_has_no_version_for_a_draft(server_hello):
    assert ja4s(server_hello(selected_version=0x7F1C))[:3] == "t00"
    assert ja4s(server_hello(legacy_version=0x7F12))[:3] == "t00"


@pytest.mark.parametrize(
    ("oids", "digest"),
    [
        (("550406", "55040a", "550403"), "a373a9f83c6b"),
        (("551d0f", "551d25", "551d11"), "aae71e8db6d7"),
        (("550403",), "7022c563de38"),
        ((), "000000000000"),
    ],
)
def test_ja4x_hashes_each_list_of_oids(oids, digest):
    assert ja4x(oids, (), ()) == f"{digest}_000000000000_000000000000"
    assert ja4x((), oids, ()) == f"000000000000_{digest}_000000000000"
    assert ja4x((), (), oids) == f"000000000000_000000000000_{digest}"


@pytest.mark.parametrize(
    ("window", "options", "expected"),
    [
        (28960, "020405b4 0402 080a 00000001 00000000 01 030307", "28960_2-4-8-1-3_1460_7"),
        (
            65535,
            "020405b4 01 030306 01 01 080a 00000001 00000000 0402 0000",
            "65535_2-1-3-1-1-8-4-0-0_1460_6",
        ),
        (1024, "020405b4", "1024_2_1460_00"),
        (65535, "", "65535_00_00_00"),
        (0, "030300", "0_3_00_00"),  # a scale of 0 prints as none
        (5, "02040007", "5_2_07_00"),
        (5, "02040007 020405b4 030301 030302", "5_2-2-3-3_1460_2"),
    ],
)
def test_ja4t_has_window_kinds_mss_and_scale(window, options, expected):
    assert ja4t(window, walk(bytes.fromhex(options))) == expected


def test_ja4l_is_half_the_round_trip_time_in_whole_microseconds():
    assert ja4l(2001, 64) == "1000_64"
    assert ja4l(1, 128) == "0_128"
    assert ja4l(2_500_000, 57) == "1250000_57"
