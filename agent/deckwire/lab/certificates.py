"""Self-signed certificates for the lab's servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=825)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, each in a PEM file."""

    certificate: Path
    key: Path


def make_certificate(
    directory: Path,
    common_name: str,
    *,
    key: Literal["rsa", "ec"] = "rsa",
    organization: str = "Example Corp",
    names: Sequence[str] = (),
) -> Certificate:
    """Makes a self-signed certificate in `directory`, for `common_name` and DNS `names`.

    Its key is RSA with 2,048 bits, or EC on P-256.
    """
    private = (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        if key == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in (common_name, *names)]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    made = Certificate(directory / f"{common_name}.crt", directory / f"{common_name}.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made
