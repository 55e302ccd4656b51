import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.x509 import der
from deckwire.x509.der import DerError, Element, dotted, elements, length_octets, read, take


def test_short_and_long_lengths():
    assert read(bytes.fromhex("0403 616263 ff")) == (Element(0x04, b"abc"), 5)
    long = b"\x30\x82\x01\x00" + bytes(256)
    assert read(long) == (Element(0x30, bytes(256)), len(long))


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "30",
        "3001",
        "3080 0000",  # indefinite
        "30ff",
        "3085 0000000001 00",  # five bytes of length
        "3082 01",
        "1f01 00",  # tag number in further bytes
        "bf8101 0100",
    ],
)
def test_broken_elements(broken):
    with pytest.raises(DerError):
        read(bytes.fromhex(broken))


def test_clip_reads_what_is_there():
    assert read(b"\x30\x05ab", clip=True) == (Element(0x30, b"ab"), 4)


def test_elements_stop_at_the_broken_one():
    items = elements(bytes.fromhex("0500 0201 07 0405"))
    assert take(items, 0x05) == b""
    assert take(items, 0x02) == b"\x07"
    with pytest.raises(DerError):
        next(items)


def test_take_wants_its_tag():
    with pytest.raises(DerError):
        take(elements(b"\x05\x00"), 0x02)
    with pytest.raises(DerError):
        take(elements(b""), 0x02)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("550403", "2.5.4.3"),
        ("2a864886f70d010901", "1.2.840.113549.1.9.1"),
        ("2b0601040182371402 03", "1.3.6.1.4.1.311.20.2.3"),
        ("00", "0.0"),
        ("883703", "2.999.3"),
    ],
)
def test_dotted(content, text):
    assert dotted(bytes.fromhex(content)) == text


@pytest.mark.parametrize("content", [b"", b"\x55\x84", b"\x55" * 65, b"\xff" * 60_000 + b"\x01"])
def test_not_an_object_identifier(content):
    with pytest.raises(DerError):
        dotted(content)


@given(st.integers(0, 100_000))
def test_lengths_are_read_as_written(length):
    content = bytes(length)
    encoded = b"\x04" + length_octets(length) + content
    assert read(encoded) == (Element(0x04, content), len(encoded))


@given(st.binary(max_size=200))
def test_any_bytes_are_elements_or_an_error(data):
    at = 0
    try:
        for _, content in elements(data):
            at += 2 + len(content)
    except DerError:
        pass
    assert at <= len(data)


@pytest.mark.parametrize("text", ["1.2.840.113549.1.1.5", "2.5.4.3", "0.0", "2.999.1.0.128"])
def test_object_identifiers_there_and_back(text: str) -> None:
    assert der.dotted(der.oid(text)) == text


def test_an_element_is_read_as_it_was_written() -> None:
    for size in (0, 127, 128, 70_000):
        written = der.element(der.OCTET_STRING, bytes(size))
        assert der.read(written) == ((der.OCTET_STRING, bytes(size)), len(written))
