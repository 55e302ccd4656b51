"""Certificates are made by the cryptography library, or by hand where it refuses to make them."""

import datetime
import hashlib
import ipaddress
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints.ja4plus import ja4x
from deckwire.limits import CERTIFICATE_ATTRIBUTES, CERTIFICATE_SANS
from deckwire.x509 import self_signature
from deckwire.x509.certificate import describe
from deckwire.x509.der import length_octets

EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def name(*attributes) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


ACME = name(
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.ORGANIZATION_NAME, "Acme, Inc"),
    (NameOID.COMMON_NAME, "decoy"),
)


def make(
    key=EC_KEY,
    *,
    subject=ACME,
    issuer=None,
    signer=None,
    algorithm=hashes.SHA256(),  # noqa: B008 - a constant
    not_after=datetime.datetime(2049, 12, 31),
    sans=(),
    extensions=(),
    serial=0x0ABC,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.datetime(2026, 11, 24, 2, 59, 26))
        .not_valid_after(not_after)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    signed = builder.sign(signer or key, algorithm)
    return signed.public_bytes(serialization.Encoding.DER)


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return bytes([tag]) + length_octets(len(content)) + content


def seq(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


CN = bytes.fromhex("0603550403")
ECDSA = seq(bytes.fromhex("06082a8648ce3d040302"))
WITH_SHA256 = (ec.ECDSA(hashes.SHA256()),)
SHA256 = seq(bytes.fromhex("0609608648016503040201"), b"\5\0")
# RFC 4055, 3.1: hash, mask generation, and a salt of 32 bytes.
RSASSA_PSS = seq(
    bytes.fromhex("06092a864886f70d01010a"),
    seq(
        tlv(0xA0, SHA256),
        tlv(0xA1, seq(bytes.fromhex("06092a864886f70d010108"), SHA256)),
        tlv(0xA2, tlv(0x02, bytes([32]))),
    ),
)


def rdn(value: bytes, oid: bytes = CN) -> bytes:
    return tlv(0x31, seq(oid, value))


def by_hand(
    *,
    subject: bytes = rdn(tlv(0x0C, b"decoy")),
    issuer: bytes | None = None,
    extensions: bytes = b"",
    times: bytes = tlv(0x17, b"261124025926Z") + tlv(0x18, b"20810827030546Z"),
    serial: bytes = b"\x05",
    version: int = 2,
    key=EC_KEY,
    algorithm: bytes = ECDSA,
    how=WITH_SHA256,
) -> bytes:
    """A certificate out of parts, signed with `key`; `how` is what its sign() wants besides."""
    public_key = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = seq(
        tlv(0xA0, tlv(0x02, bytes([version]))) if version else b"",
        tlv(0x02, serial),
        algorithm,
        seq(subject if issuer is None else issuer),
        seq(times),
        seq(subject),
        public_key,
        tlv(0xA3, seq(extensions)) if extensions else b"",
    )
    signature = key.sign(signed, *how)
    return seq(signed, algorithm, tlv(0x03, b"\0", signature))


def san_extension(*names: bytes) -> bytes:
    return seq(bytes.fromhex("0603551d11"), tlv(0x04, seq(*names)))


# --- what a sound certificate says ----------------------------------------------------------


def test_the_library_is_imported_with_the_first_certificate():
    program = (
        "import sys\n"
        "from deckwire.runtime import agent, assembly, feed, preparation, replay, run\n"
        "from deckwire.x509.certificate import describe\n"
        "print('cryptography' in sys.modules)\n"
        f"print(describe(bytes.fromhex('{make().hex()}')).self_signed)\n"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", "True"]


def test_self_signed_leaf():
    der = make(
        sans=[
            x509.DNSName("decoy.example"),
            x509.DNSName("*.decoy.example"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
            x509.RFC822Name("root@decoy.example"),
            x509.UniformResourceIdentifier("https://decoy.example/"),
            x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
            x509.DirectoryName(name((NameOID.COMMON_NAME, "a+b"), (NameOID.LOCALITY_NAME, "X"))),
            x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), tlv(0x0C, b"u@d")),
            x509.OtherName(ObjectIdentifier("1.2.3.5"), tlv(0x02, b"\1")),
        ],
        extensions=[x509.BasicConstraints(ca=True, path_length=None)],
    )
    said = describe(der)
    assert said.subject_cn == "decoy"
    assert said.subject == said.issuer == "C=US, O=Acme\\, Inc, CN=decoy"
    assert said.not_before == "261124025926Z"
    assert said.not_after == "491231000000Z"
    assert said.sans == (
        "decoy.example",
        "*.decoy.example",
        "192.0.2.7",
        "2001:db8::7",
        "root@decoy.example",
        "https://decoy.example/",
        "RID:1.2.3.4",
        "DirName:CN=a\\+b, L=X",
        "OtherName:1.3.6.1.4.1.311.20.2.3=u@d",
        "OtherName:1.2.3.5",
    )
    assert said.self_signed
    assert said.serial == "0abc"
    assert said.key == "ec-p256"
    assert said.signature_algorithm == "ecdsa-with-SHA256"
    assert said.sha256 == hashlib.sha256(der).hexdigest()
    assert said.issuer_oids == said.subject_oids == ("550406", "55040a", "550403")
    assert said.extension_oids == ("551d11", "551d13")
    assert (said.malformed, said.quality) == (False, "complete")


def test_years_after_2049_are_generalized_time():
    said = describe(make(not_after=datetime.datetime(2081, 8, 27, 3, 5, 46)))
    assert said.not_after == "20810827030546Z"
    assert said.quality == "complete"


def test_version_1_without_extensions():
    said = describe(by_hand(version=0))
    assert said.quality == "complete"
    assert said.self_signed
    assert said.sans == said.extension_oids == ()
    assert ja4x(said.issuer_oids, said.subject_oids, said.extension_oids) == (
        "7022c563de38_7022c563de38_000000000000"
    )


@cache
def dsa_key():
    return dsa.generate_private_key(1024)  # noqa: S505 - quick to make


@cache
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("key", "algorithm", "key_name", "signature"),
    [
        (rsa_key, hashes.SHA256(), "rsa2048", "sha256WithRSAEncryption"),
        (rsa_key, hashes.SHA512(), "rsa2048", "sha512WithRSAEncryption"),
        (dsa_key, hashes.SHA256(), "dsa1024", "dsa-with-sha256"),
        (
            lambda: ec.generate_private_key(ec.SECP384R1()),
            hashes.SHA384(),
            "ec-p384",
            "ecdsa-with-SHA384",
        ),
        (
            lambda: ec.generate_private_key(ec.SECP256K1()),
            hashes.SHA256(),
            "ec-secp256k1",
            "ecdsa-with-SHA256",
        ),
        (ed25519.Ed25519PrivateKey.generate, None, "ed25519", "ed25519"),
        (ed448.Ed448PrivateKey.generate, None, "ed448", "ed448"),
    ],
)
def test_keys_and_signatures(key, algorithm, key_name, signature):
    said = describe(make(key(), algorithm=algorithm))
    assert (said.key, said.signature_algorithm) == (key_name, signature)
    assert said.self_signed
    assert said.quality == "complete"


def test_ml_dsa():
    mldsa = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.mldsa", reason="library without ML-DSA"
    )
    said = describe(make(mldsa.MLDSA44PrivateKey.generate(), algorithm=None))
    assert (said.key, said.signature_algorithm) == ("ml-dsa-44", "ml-dsa-44")
    assert said.self_signed


def test_rsa_pss():
    # By hand, because the oldest cryptography that is supported makes none.
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    said = describe(by_hand(key=rsa_key(), algorithm=RSASSA_PSS, how=(pss, hashes.SHA256())))
    assert (said.key, said.signature_algorithm) == ("rsa2048", "rsassaPss")
    assert said.self_signed


def test_a_key_that_cannot_sign():
    key = x25519.X25519PrivateKey.generate()
    said = describe(make(key, signer=EC_KEY))
    assert said.key == "x25519"
    assert said.self_signed is False


# --- self-signed means verified -------------------------------------------------------------


def test_self_issued_but_signed_by_another_key():
    said = describe(make(signer=OTHER_KEY))
    assert said.issuer == said.subject
    assert said.self_signed is False
    assert said.quality == "complete"


def test_same_common_name_is_not_the_same_name():
    issuer = name((NameOID.ORGANIZATION_NAME, "Other"), (NameOID.COMMON_NAME, "decoy"))
    assert describe(make(issuer=issuer)).self_signed is False


def test_flipped_signature_bit():
    der = bytearray(make())
    der[-1] ^= 1
    assert describe(bytes(der)).self_signed is False


@pytest.mark.parametrize(
    ("exponent", "bits"), [(65537, 16_384), ((1 << 2_047) | 1, 2_048), ((1 << 64) | 1, 2_048)]
)
def test_a_key_that_costs_too_much_is_named_but_not_asked(monkeypatch, exponent, bits):
    def asked(*_):
        raise AssertionError

    monkeypatch.setattr(self_signature, "load_der_public_key", asked)
    modulus = (1 << bits - 1) | 1
    said = describe(own(rsa_public_key(modulus, exponent)))
    assert said.key == f"rsa{bits}"
    assert said.issuer == said.subject
    assert said.self_signed is None


def rsa_public_key(modulus: int, exponent: int) -> bytes:
    """Made by hand: the library refuses some that peers can send."""
    integers = [
        tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))
        for number in (modulus, exponent)
    ]
    algorithm = seq(bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("0500"))
    return seq(algorithm, tlv(0x03, b"\0", seq(*integers)))


def own(public_key: bytes) -> bytes:
    """A self-issued certificate that claims a SHA-256 signature of this RSA key."""
    sha256_rsa = seq(bytes.fromhex("06092a864886f70d01010b0500"))
    decoy = seq(rdn(tlv(0x0C, b"decoy")))
    times = seq(tlv(0x17, b"261124025926Z"), tlv(0x17, b"361124025926Z"))
    signed = seq(tlv(0x02, b"\5"), sha256_rsa, decoy, times, decoy, public_key)
    return seq(signed, sha256_rsa, tlv(0x03, b"\0", bytes(256)))


def test_a_cut_certificate_says_nothing_about_its_signature():
    der = make()
    assert describe(der[:-1]).self_signed is None
    assert describe(der[:20]).self_signed is None
    other = make(issuer=name((NameOID.COMMON_NAME, "another")))
    assert describe(other[:-1]).self_signed is False


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("Acme, Inc", "Acme\\, Inc"),
        ('a"b+c;d<e>f', 'a\\"b\\+c\\;d\\<e\\>f'),
        ("back\\slash", "back\\\\slash"),
        ("#1", "\\#1"),
        ("a#1", "a#1"),
        (" a ", "\\ a\\ "),
        (" ", "\\ "),
        ("  ", "\\ \\ "),
        ("a=b", "a=b"),
        ("a\0b", "a\\00b"),
        ("line\nCN=forged", "line\nCN=forged"),  # controls are the formatter's work
        ("Ünïcödé 蜜", "Ünïcödé 蜜"),
    ],
)
def test_values_are_escaped_in_names_but_not_in_subject_cn(value, escaped):
    said = describe(make(subject=name((NameOID.COMMON_NAME, value))))
    assert said.subject == f"CN={escaped}"
    assert said.subject_cn == value
    assert said.quality == "complete"


def test_attribute_types():
    said = describe(
        make(
            subject=name(
                (NameOID.STATE_OR_PROVINCE_NAME, "Zagreb"),
                (NameOID.ORGANIZATIONAL_UNIT_NAME, "u"),
                (NameOID.EMAIL_ADDRESS, "a@b"),
                (NameOID.SERIAL_NUMBER, "7"),
            )
        )
    )
    assert said.subject == "ST=Zagreb, OU=u, 1.2.840.113549.1.9.1=a@b, 2.5.4.5=7"
    assert said.subject_cn == ""


def test_multi_valued_rdn_counts_each_attribute():
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, "a"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b"),
    ]
    both = x509.Name([x509.RelativeDistinguishedName(attributes)])
    said = describe(make(subject=both))
    assert len(said.subject_oids) == 2
    assert set(said.subject.split(", ")) == {"CN=a", "O=b"}


def test_first_common_name_counts():
    subject = name((NameOID.COMMON_NAME, "first"), (NameOID.COMMON_NAME, "second"))
    assert describe(make(subject=subject)).subject_cn == "first"


@pytest.mark.parametrize(
    ("kind", "encoded", "text"),
    [
        (_ASN1Type.BMPString, "蜜".encode("utf-16-be"), "蜜"),
        (_ASN1Type.UniversalString, "蜜".encode("utf-32-be"), "蜜"),
        (_ASN1Type.T61String, b"caf\xe9", "café"),
        (_ASN1Type.T61String, "café".encode(), "café"),
        (_ASN1Type.PrintableString, b"plain", "plain"),
    ],
)
def test_string_types(kind, encoded, text):
    said = describe(by_hand(subject=rdn(tlv(kind.value, encoded))))
    assert said.subject_cn == text
    assert said.quality == "complete"
    assert said.self_signed


def test_a_value_that_is_no_string_is_shown_in_hex():
    unique_identifier = bytes.fromhex("060355042d")
    said = describe(by_hand(subject=rdn(tlv(0x03, b"\0\xff"), unique_identifier)))
    assert said.subject == "2.5.4.45=#030200ff"
    assert said.quality == "complete"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tlv(0x0C, b"a\xff"), "a\udcff"),
        (tlv(0x1E, b"\0a\0"), "#1e03006100"),
        (tlv(0x1E, b"\xd8\x00"), "#1e02d800"),
        (tlv(0x1C, b"\xff\xff\xff\xff"), "#1c04ffffffff"),
    ],
)
def test_strings_that_are_not_what_they_say(value, text):
    said = describe(by_hand(subject=rdn(value)))
    assert said.subject == f"CN={text}"
    assert said.malformed


def test_empty_name():
    said = describe(by_hand(subject=b""))
    assert (said.subject, said.subject_cn, said.subject_oids) == ("", "", ())
    assert said.quality == "complete"


# --- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"), [(b"\x00\xff", "ff"), (b"\x05", "05"), (b"\x7f" * 20, "7f" * 20)]
)
def test_serial(content, text):
    assert describe(by_hand(serial=content)).serial == text


def test_deprecated_certificates_are_described_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = describe(by_hand(serial=b"\xff"))
    assert said.serial == "ff"
    assert said.subject_cn == "decoy"


# --- broken ones ----------------------------------------------------------------------------


def test_a_cut_certificate_gives_the_fields_before_the_cut():
    der = make(sans=[x509.DNSName("decoy.example")])
    whole = describe(der)
    known: dict[str, object] = {}
    for size in range(len(der)):
        said = describe(der[:size])
        assert said.malformed
        assert not said.self_signed
        for field in ("serial", "not_before", "not_after", "key", "sans"):
            value = getattr(said, field)
            assert value in ("", (), getattr(whole, field))
            # What was readable stays so with more bytes.
            assert not known.get(field) or value == known[field]
            known[field] = value
    assert all(known.values())


def test_bytes_behind_the_certificate():
    said = describe(make() + b"\0")
    assert said.malformed
    assert said.subject_cn == "decoy"


@pytest.mark.parametrize("version", [3, 104])
def test_a_version_that_does_not_exist(version):
    said = describe(by_hand(version=version))
    assert said.malformed
    assert said.subject_cn == "decoy"


def test_indefinite_length_is_refused():
    der = make()
    said = describe(b"\x30\x80" + der[4:] + b"\0\0")
    assert said.malformed
    assert said.subject == ""


def test_repeated_extension():
    twice = san_extension(tlv(0x82, b"first")) + san_extension(tlv(0x82, b"second"))
    said = describe(by_hand(extensions=twice))
    assert said.malformed
    assert said.sans == ("first",)
    assert said.extension_oids == ("551d11", "551d11")


@pytest.mark.parametrize(
    "broken",
    [
        tlv(0x87, b"\1\2\3"),  # an address of three bytes
        tlv(0xA4, b"\x30\x05"),
        tlv(0x88, b"\x80"),
        tlv(0xA0, CN),
        tlv(0x9E, b""),
        b"\x82\x05ab",
    ],
)
def test_names_before_a_broken_one_are_described(broken):
    said = describe(by_hand(extensions=san_extension(tlv(0x82, b"good"), broken)))
    assert said.sans == ("good",)
    assert said.malformed


def test_names_that_do_not_print_are_shown_by_type():
    said = describe(by_hand(extensions=san_extension(tlv(0xA3, b""), tlv(0xA5, b""))))
    assert said.sans == ("X400Name", "EdiPartyName")


def test_a_broken_name_spares_the_other_fields():
    said = describe(by_hand(issuer=rdn(tlv(0x0C, b"ca")) + b"\x31\x00"))
    assert said.issuer == "CN=ca"
    assert said.subject_cn == "decoy"
    assert said.key == "ec-p256"
    assert said.malformed


def test_odd_times():
    said = describe(by_hand(times=tlv(0x17, b"261124025926Z") + tlv(0x0C, b"never")))
    assert (said.not_before, said.not_after) == ("261124025926Z", "")
    assert said.subject_cn == "decoy"
    assert said.malformed


def test_an_unbounded_object_identifier():
    said = describe(by_hand(subject=rdn(tlv(0x0C, b"x"), tlv(0x06, b"\xff" * 9_000 + b"\1"))))
    assert said.malformed
    assert said.subject == f"#{'ff' * 9_000}01=x"


def test_long_lists_are_cut():
    names = [tlv(0x82, b"a")] * (CERTIFICATE_SANS + 1)
    said = describe(by_hand(extensions=san_extension(*names)))
    assert len(said.sans) == CERTIFICATE_SANS + 1
    assert said.sans[-1] == "..."
    assert said.quality == "complete"

    directory = tlv(0xA4, seq(rdn(tlv(0x0C, b"a")) * (CERTIFICATE_ATTRIBUTES // 2)))
    said = describe(by_hand(extensions=san_extension(*[directory] * 3)))
    assert len(said.sans) == 2
    assert said.malformed

    said = describe(by_hand(subject=rdn(tlv(0x0C, b"a")) * (CERTIFICATE_ATTRIBUTES + 1)))
    assert len(said.subject_oids) == CERTIFICATE_ATTRIBUTES
    assert said.malformed


@given(st.binary(max_size=300))
def test_random_bytes_give_a_malformed_value(data):
    said = describe(data)
    assert said.malformed
    assert said.sha256 == hashlib.sha256(data).hexdigest()
    assert not said.self_signed


LEAF = make(
    sans=[
        x509.DNSName("decoy.example"),
        x509.DirectoryName(ACME),
        x509.OtherName(ObjectIdentifier("1.2.3"), tlv(0x0C, b"x")),
    ]
)


@given(
    st.lists(st.tuples(st.integers(0, len(LEAF) - 1), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_damaged_certificates_never_raise(damage):
    data = bytearray(LEAF)
    for at, value in damage:
        data[at] = value
    said = describe(bytes(data))
    # Text must be fit for every formatter: bytes that are not UTF-8 stand as surrogate escapes.
    for text in (said.subject_cn, said.subject, said.issuer, said.not_before, *said.sans):
        text.encode("utf-8", "surrogateescape")
    assert (
        not said.self_signed
        or bytes(data) == LEAF
        or said == replace(describe(LEAF), sha256=said.sha256)
    )
