"""JA3 and JA3S."""

import hashlib

import pytest

from deckwire.fingerprints.ja3 import ja3, ja3_full, ja3s, ja3s_full

OLD_CIPHERS = (4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99)
FIREFOX_CIPHERS = (47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4)


def test_the_example_of_the_definition(client_hello):
    hello = client_hello(
        legacy_version=769,
        cipher_suites=FIREFOX_CIPHERS,
        extensions=(0, 10, 11),
        supported_groups=(23, 24, 25),
        ec_point_formats=(0,),
    )
    assert ja3_full(hello) == (
        "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0"
    )
    assert ja3(hello) == "ada70206e40642a3e4461f35503241d5"


def test_empty_lists_are_empty_fields(client_hello):
    hello = client_hello(legacy_version=769, cipher_suites=OLD_CIPHERS)
    assert ja3_full(hello) == "769,4-5-10-9-100-98-3-6-19-18-99,,,"
    assert ja3(hello) == "de350869b8c85de67a350c8d186f11e6"


def test_grease_is_removed_except_from_point_formats(client_hello):
    hello = client_hello(
        cipher_suites=(0x0A0A, 4865, 0xFAFA),
        extensions=(0x1A1A, 10, 0xBABA, 10),
        supported_groups=(0x2A2A, 29),
        ec_point_formats=(0x0A, 1),
    )
    assert ja3_full(hello) == "771,4865,10-10,29,10-1"


def test_the_version_is_legacy_version(chrome):
    assert ja3_full(chrome).startswith("771,4865-4866-4867-")


@pytest.mark.parametrize(
    ("fields", "full"),
    [
        ({"legacy_version": 769, "cipher_suite": 4}, "769,4,"),
        ({"legacy_version": 0x7F12, "cipher_suite": 4865, "extensions": (40,)}, "32530,4865,40"),
        ({"extensions": (65281, 0x0A0A, 11)}, "771,49200,65281-2570-11"),
    ],
)
def test_ja3s_keeps_wire_order_and_grease(server_hello, fields, full):
    hello = server_hello(**fields)
    assert ja3s_full(hello) == full
    assert ja3s(hello) == hashlib.md5(full.encode()).hexdigest()  # noqa: S324 - JA3 is MD5
