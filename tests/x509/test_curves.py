"""Curves written out by openssl, against their names."""

from __future__ import annotations

import subprocess

import pytest

from deckwire.limits import CURVE_NUMBER_BYTES
from deckwire.x509 import curves, der

NAMES = {
    "prime192v1": "1.2.840.10045.3.1.1",
    "secp224r1": "1.3.132.0.33",
    "prime256v1": "1.2.840.10045.3.1.7",
    "secp384r1": "1.3.132.0.34",
    "secp521r1": "1.3.132.0.35",
    "secp256k1": "1.3.132.0.10",
    "brainpoolP256r1": "1.3.36.3.3.2.8.1.1.7",
    "brainpoolP384r1": "1.3.36.3.3.2.8.1.1.11",
    "brainpoolP512r1": "1.3.36.3.3.2.8.1.1.13",
}


def written_out(name: str, form: str = "uncompressed") -> bytes:
    """The content of the ECParameters of a curve."""
    command = ["openssl", "ecparam", "-name", name, "-param_enc", "explicit"]
    made = subprocess.run(
        [*command, "-conv_form", form, "-outform", "DER"], capture_output=True, check=True
    )
    return der.read(made.stdout)[0].content


@pytest.mark.parametrize("form", ["uncompressed", "compressed"])
@pytest.mark.parametrize("name", NAMES)
def test_known_curves_are_named(name: str, form: str) -> None:
    assert curves.named(written_out(name, form)) == NAMES[name]


@pytest.mark.parametrize("name", ["secp160r1", "sect163k1", "brainpoolP320r1"])
def test_others_are_not(name: str) -> None:
    assert curves.named(written_out(name)) is None


@pytest.mark.parametrize("form", ["uncompressed", "compressed"])
def test_every_number_counts(form: str) -> None:
    """A changed byte is another curve, or none; of the point's y only the lowest bit is needed."""
    parameters = written_out("prime256v1", form)
    y_at = parameters.index(bytes.fromhex("4fe342e2")) if form == "uncompressed" else None
    ignored = set()
    for at in range(len(parameters)):
        changed = parameters[:at] + bytes([parameters[at] ^ 1]) + parameters[at + 1 :]
        try:
            if curves.named(changed) is not None:
                ignored.add(at)
        except der.DerError:
            pass
    # The version, the seed and the cofactor describe the curve, they do not make it.
    version, cofactor = {0, 1, 2}, set(range(len(parameters) - 3, len(parameters)))
    assert ignored <= version | cofactor | seed(parameters) | y(y_at)


def seed(parameters: bytes) -> set[int]:
    at = parameters.index(bytes.fromhex("c49d3608"))
    return set(range(at - 3, at + 20))


def y(at: int | None) -> set[int]:
    return set() if at is None else set(range(at, at + 31))


def test_endless_numbers_are_refused() -> None:
    parameters = written_out("prime256v1")
    p = parameters.index(b"\x02\x21\x00\xff\xff\xff\xff")
    field = parameters.index(b"\x30\x2c")
    number = der.element(der.INTEGER, b"\0" + b"\xff" * (CURVE_NUMBER_BYTES + 1))
    longer = der.element(der.SEQUENCE, parameters[field + 2 : p] + number)
    with pytest.raises(der.DerError):
        curves.named(parameters[:field] + longer + parameters[field + 2 + 0x2C :])
