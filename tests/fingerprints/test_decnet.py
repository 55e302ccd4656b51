"""The old ja4 and ja4s: decimal numbers, joined with commas, sorted by number."""

import hashlib

from deckwire.fingerprints.decnet import ja4, ja4s


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_ja4_hashes_sorted_decimal_lists(client_hello):
    hello = client_hello(
        cipher_suites=(0x1A1A, 4867, 47, 255),
        extensions=(0x0A0A, 65281, 0, 16, 13),
        alpn=(b"http/1.1",),
        supported_versions=(0x3A3A, 0x0304),
        signature_algorithms=(2052, 1027),
        server_name=b"example.com",
    )
    assert ja4(hello) == (f"t13d0304h1_{digest('47,255,4867')}_{digest('0,13,16,65281_1027,2052')}")


def test_the_letter_shows_a_server_name(client_hello):
    assert ja4(client_hello(extensions=(0,)))[3] == "i"
    assert ja4(client_hello(extensions=(0,), server_name=b""))[3] == "i"
    assert ja4(client_hello(extensions=(0,), server_name=b"a"))[3] == "d"


def test_an_empty_list_has_the_hash_of_the_empty_text(client_hello):
    hello = client_hello(cipher_suites=(), legacy_version=0x0200)
    assert ja4(hello) == "ts2i000000_e3b0c44298fc_e3b0c44298fc"


def test_alpn_characters_are_not_converted(client_hello):
    assert ja4(client_hello(alpn=(b"x",)))[8:10] == "xx"
    assert ja4(client_hello(alpn=(b"a-",)))[8:10] == "a-"
    assert ja4(client_hello(alpn=(b"\xffa",)))[8:10] == "\ufffda"


def test_counts_stop_at_99(client_hello):
    assert ja4(client_hello(cipher_suites=range(1, 131), extensions=range(150)))[4:8] == "9999"


def test_ja4s_hashes_cipher_suite_and_extensions(server_hello):
    hello = server_hello(
        cipher_suite=49200, extensions=(65281, 0, 11), alpn=b"h2", selected_version=None
    )
    assert ja4s(hello) == f"t1203h2_{digest('49200,0,11,65281')}"


def test_ja4s_of_tls13_has_no_alpn(server_hello):
    hello = server_hello(cipher_suite=4865, extensions=(51, 43), selected_version=0x0304)
    assert ja4s(hello) == f"t130200_{digest('4865,43,51')}"


def test_ja4s_may_have_no_extensions(server_hello):
    assert ja4s(server_hello(cipher_suite=4)) == f"t120000_{digest('4,')}"
