"""JA4 and its plain and wire-order forms."""

import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.fingerprints.ja4 import alpn_tag, ja4, ja4_o, ja4_r, ja4_ro, ja4_stable

CIPHERS = "002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9"
EXTENSIONS = "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01"
ALGORITHMS = "0403,0804,0401,0503,0805,0501,0806,0601"


def test_the_example_of_the_definition(chrome):
    assert ja4(chrome) == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert ja4_r(chrome) == f"t13d1516h2_{CIPHERS}_{EXTENSIONS}_{ALGORITHMS}"


def test_the_example_in_wire_order(chrome):
    assert ja4_o(chrome) == "t13d1516h2_acb858a92679_18f69afefd3d"
    assert ja4_ro(chrome) == (
        "t13d1516h2"
        "_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
        "_001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015"
        f"_{ALGORITHMS}"
    )


def test_the_stable_form_leaves_out_what_comes_and_goes(chrome):
    usual = ja4_stable(chrome)
    assert usual[:10] == "t13d1514h2"  # without padding and session_ticket
    assert usual[11:23] == ja4(chrome)[11:23]
    kept = EXTENSIONS.replace("0015,", "").replace("0023,", "")
    digest = hashlib.sha256(f"{kept}_{ALGORITHMS}".encode()).hexdigest()[:12]
    assert usual[24:] == digest
    bare = [each for each in chrome.extensions if each[0] not in (21, 35, 41, 42)]
    resumed = [*bare, (42, b""), (35, b"ticket"), (21, bytes(9)), (41, b"psk")]
    for extensions in (bare, resumed):
        assert ja4_stable(replace(chrome, extensions=tuple(extensions))) == usual


def test_no_underscore_without_signature_algorithms(chrome):
    hello = replace(chrome, signature_algorithms=())
    assert ja4(hello) == "t13d1516h2_8daaf6152771_6d807ffa2a79"
    assert ja4_r(hello) == f"t13d1516h2_{CIPHERS}_{EXTENSIONS}"


def test_grease_is_removed_from_signature_algorithms(chrome):
    hello = replace(chrome, signature_algorithms=(0xDADA, *chrome.signature_algorithms, 0x0A0A))
    assert ja4(hello) == ja4(chrome)
    assert ja4_ro(hello) == ja4_ro(chrome)


@pytest.mark.parametrize(
    ("versions", "legacy", "tag"),
    [
        ((0x0303, 0x0304), 0x0303, "13"),
        ((0xFAFA, 0x0302), 0x0303, "11"),  # lower than the legacy version
        ((0x7F1C, 0x0304), 0x0303, "00"),  # a draft is the highest number
        ((0x0A0A,), 0x0301, "10"),
        ((), 0x0303, "12"),
        ((), 0x0302, "11"),
        ((), 0x0301, "10"),
        ((), 0x0300, "s3"),
        ((), 0x0002, "s2"),
        ((), 0x0200, "00"),
        ((), 0xFEFF, "d1"),
        ((), 0xFEFD, "d2"),
        ((), 0xFEFC, "d3"),
        ((), 0x0305, "00"),
    ],
)
def test_the_version_is_the_highest_offered(client_hello, versions, legacy, tag):
    hello = client_hello(legacy_version=legacy, supported_versions=versions)
    assert ja4(hello)[1:3] == tag


def test_the_letter_shows_the_extension_not_the_name(client_hello):
    assert ja4(client_hello(extensions=(0,), server_name=None))[3] == "d"
    assert ja4(client_hello(extensions=(16,)))[3] == "i"


def test_counts_stop_at_99_but_lists_do_not(client_hello):
    hello = client_hello(cipher_suites=range(1, 131), extensions=range(100, 250))
    assert ja4(hello)[4:8] == "9999"
    ciphers, extensions = ja4_r(hello).split("_")[1:]
    assert len(ciphers.split(",")) == 130
    assert len(extensions.split(",")) == 150


def test_signalling_cipher_suites_and_repeated_extensions_count(client_hello):
    hello = client_hello(cipher_suites=(0x00FF, 0x5600), extensions=(11, 10, 11))
    assert ja4_r(hello) == "t12i020300_00ff,5600_000a,000b,000b"


@pytest.mark.parametrize(
    ("protocol", "tag"),
    [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"H2", "H2"),
        (b"x", "xx"),
        (b"\xab", "ab"),
        (b" ", "20"),
        (b"\xab\xcd", "ad"),
        (b"\x20\x61", "21"),
        (b"\x30\xab", "3b"),
        (b"\x61\x20", "60"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
        (b"", "00"),
        (None, "00"),
    ],
)
def test_an_alpn_tag_has_the_first_and_last_character(protocol, tag):
    assert alpn_tag(protocol) == tag


def test_only_the_first_protocol_counts(client_hello):
    assert ja4(client_hello(alpn=(b"", b"h2")))[8:10] == "00"
    assert ja4(client_hello(alpn=(b"dot", b"h2")))[8:10] == "dt"


def test_an_empty_list_has_zeros_instead_of_a_hash(client_hello):
    hello = client_hello(cipher_suites=(0x0A0A,), extensions=(0x1A1A,))
    assert ja4(hello) == ja4_o(hello) == "t12i000000_000000000000_000000000000"
    assert ja4_r(hello) == ja4_ro(hello) == "t12i000000__"


def test_a_hello_with_only_server_name_and_alpn(client_hello):
    hello = client_hello(extensions=(0, 16), alpn=(b"h2",))
    assert ja4(hello).endswith("d0202h2_62ed6f6ca7ad_000000000000")
    assert ja4_r(hello) == "t12d0202h2_1301,1302_"
    assert ja4_ro(hello) == "t12d0202h2_1301,1302_0000,0010"
    assert ja4_o(hello).endswith(hashlib.sha256(b"0000,0010").hexdigest()[:12])


_NUMBERS = st.lists(st.integers(0, 0xFFFF), max_size=120)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ciphers=_NUMBERS,
    extensions=_NUMBERS,
    algorithms=_NUMBERS,
    alpn=st.lists(st.binary(max_size=4), max_size=2),
)
def test_ja4_has_its_form_and_ignores_order(client_hello, ciphers, extensions, algorithms, alpn):
    # Signature algorithms need an extension.
    extensions = [*extensions, 13] if algorithms else extensions
    fields = {"signature_algorithms": tuple(algorithms), "alpn": tuple(alpn)}
    hello = client_hello(cipher_suites=ciphers, extensions=extensions, **fields)
    value = ja4(hello)
    assert re.fullmatch(r"t12[di]\d{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}", value)
    assert "e3b0c44298fc" not in value
    mirrored = client_hello(cipher_suites=ciphers[::-1], extensions=extensions[::-1], **fields)
    assert ja4(mirrored) == value
    assert ja4_r(mirrored) == ja4_r(hello)
