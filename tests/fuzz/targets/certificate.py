"""x509.certificate.describe: any bytes give a value; another parser agrees if it is valid."""

from __future__ import annotations

import hashlib
import warnings

from cryptography import x509

from deckwire.fingerprints import ja4plus
from deckwire.limits import CERTIFICATE_ATTRIBUTES, CERTIFICATE_EXTENSIONS, CERTIFICATE_SANS
from deckwire.x509.certificate import describe
from tests.fuzz.material import JA4X, certificates


def seeds() -> list[bytes]:
    return certificates()


def check(data: bytes) -> None:
    found = describe(data)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert len(found.sans) <= CERTIFICATE_SANS + 1
    assert len(found.extension_oids) <= CERTIFICATE_EXTENSIONS
    for oids in (found.issuer_oids, found.subject_oids):
        assert len(oids) <= CERTIFICATE_ATTRIBUTES
    for oid in (*found.issuer_oids, *found.subject_oids, *found.extension_oids):
        bytes.fromhex(oid)
    bytes.fromhex(found.serial)
    assert found.subject_cn in found.subject or set(found.subject_cn) & set('"+,;<>\\# \0')
    # A text is not longer than its bytes after escaping.
    assert len(found.subject) + len(found.issuer) <= 64 + 20 * len(data)
    assert JA4X.fullmatch(ja4plus.ja4x(found.issuer_oids, found.subject_oids, found.extension_oids))
    if not found.malformed:
        _check_against_library(data)


def _check_against_library(data: bytes) -> None:
    found = describe(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = x509.load_der_x509_certificate(data)
        serial = library.serial_number
        if serial > 0:
            assert int(found.serial, 16) == serial
        try:
            names = [len(list(name)) for name in (library.issuer, library.subject)]
        except (ValueError, TypeError):
            return  # The library does not know the type of an attribute, which ours has in hex.
    assert names == [len(found.issuer_oids), len(found.subject_oids)]
