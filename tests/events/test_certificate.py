"""tls_certificate against docs/events.md."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deckwire.events.certificate import certificate_event, headline
from deckwire.events.certificate import describe as describe_leaf
from deckwire.events.choices import Choices
from deckwire.events.event import INFORMATIONAL, Event
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from deckwire.x509.certificate import Certificate, describe
from tests.support.event_samples import (
    ADDRESSES,
    CHOICES,
    PLAIN,
    TAIL,
    TIME_NS,
    context,
    names,
    params,
    value,
)
from tests.support.flights import identity

KEPT = [*ADDRESSES, "subject_cn", "issuer", "self_signed", "not_before", "not_after"]
DETAILS = ["cert_sha256", "serial", "key", "signature_algorithm"]
END = ["chain_length", "side", "quality", *TAIL]


@pytest.fixture(scope="module")
def leaf() -> Certificate:
    return describe(identity()[1])


def make(
    *chain: Certificate,
    chain_length: int | None = 1,
    from_client: bool = False,
    quality: str = "complete",
    sni: str = "decoy.example",
    choices: Choices = CHOICES,
) -> Event:
    return certificate_event(
        headline(context(), TIME_NS, chain[0], choices),
        context(),
        describe_leaf(chain[0], choices),
        chain,
        chain_length=chain_length,
        from_client=from_client,
        quality=quality,
        sni=sni,
        choices=choices,
    )


def test_fields_in_order(leaf: Certificate) -> None:
    event = make(leaf)
    assert names(event) == [
        *KEPT,
        *("sans", "sni", "subject", "ja4x", "ja4x_chain"),
        *DETAILS,
        *END,
    ]
    assert (event.name, event.severity, event.host) == (
        "tls_certificate",
        INFORMATIONAL,
        "web-1",
    )
    assert event.fingerprint == value(event, "cert_sha256")
    old = make(leaf, choices=Choices(decnet=True))
    assert old.fingerprint == "decoy.example|CN=decoy.example"


def test_texts(leaf: Certificate) -> None:
    printed = params(make(leaf))
    expected = {
        "subject_cn": "decoy.example",
        "issuer": "CN=decoy.example",
        "self_signed": "true",
        "not_before": "260101000000Z",
        "not_after": "21251208000000Z",
        "sans": "decoy.example",
        "sni": "decoy.example",
        "subject": "CN=decoy.example",
        "serial": "1267",
        "key": "ec-p256",
        "signature_algorithm": "ecdsa-with-SHA256",
        "chain_length": "1",
        "side": "server",
        "quality": "complete",
    }
    assert {name: printed[name] for name in expected} == expected


def test_optional_fields_are_left_out_and_others_printed_empty(leaf: Certificate) -> None:
    bare = replace(leaf, sans=(), subject="", subject_cn="")
    event = make(bare, sni="")
    assert not {"sans", "sni", "subject"} & set(names(event))
    assert value(event, "subject_cn") == ""


def test_chain_and_side(leaf: Certificate) -> None:
    event = make(leaf, leaf, chain_length=20, from_client=True)
    printed = params(event)
    assert (printed["chain_length"], printed["side"]) == ("20", "client")
    assert printed["ja4x_chain"] == f"{printed['ja4x']},{printed['ja4x']}"
    fields = json.loads(JsonFormat().line(event))["fields"]
    assert fields["ja4x_chain"] == [printed["ja4x"]] * 2
    assert fields["sans"] == ["decoy.example"]
    assert fields["chain_length"] == 20
    assert fields["self_signed"] is True


def test_a_cut_message_gives_only_its_leaf(leaf: Certificate) -> None:
    event = make(leaf, chain_length=None, quality="truncated")
    assert not {"ja4x_chain", "chain_length"} & set(names(event))
    assert value(event, "ja4x") == value(make(leaf), "ja4x")
    assert value(event, "quality") == "truncated"


def test_without_ja4plus(leaf: Certificate) -> None:
    assert [n for n in names(make(leaf)) if n not in names(make(leaf, choices=PLAIN))] == [
        "ja4x",
        "ja4x_chain",
    ]


def test_a_malformed_certificate_keeps_the_fields_that_could_be_read(leaf: Certificate) -> None:
    event = make(describe(b"\x30\x03\x02\x01\x05"), quality="reassembled")
    assert value(event, "quality") == "malformed"
    readable = {
        "self_signed",
        "ja4x",
        "ja4x_chain",
        "serial",
        "key",
        "signature_algorithm",
        "subject",
    }
    assert not readable & set(names(event))
    assert [value(event, n) for n in ("subject_cn", "issuer", "not_before")] == ["", "", ""]
    assert value(event, "cert_sha256") != value(make(leaf), "cert_sha256")


def test_an_unknown_signature_leaves_self_signed_out(leaf: Certificate) -> None:
    event = make(replace(leaf, self_signed=None))
    assert names(event) == [name for name in names(make(leaf)) if name != "self_signed"]


def test_one_unreadable_certificate_leaves_no_chain_of_ja4x(leaf: Certificate) -> None:
    event = make(leaf, describe(b"\x30\x03\x02\x01\x05"))
    assert "ja4x" in names(event)
    assert "ja4x_chain" not in names(event)


def hostile() -> Certificate:
    """A certificate whose names try to end the line that contains them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Acme, Inc"]\n<132>1 forged'),
            x509.NameAttribute(NameOID.COMMON_NAME, "\x1b[31m\x00evil"),
        ]
    )
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a\n]")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return describe(made.public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize("form", [{}, {"sd_id": "relay@55555"}])
def test_hostile_names_stay_inside_their_value(form: dict[str, str]) -> None:
    event = make(hostile(), sni="")
    line = SyslogFormat(**form).line(event)
    assert all(0x20 <= byte < 0x7F for byte in line)
    printed = params(event, **form)
    assert list(printed) == names(event)
    bracket = r"\x5d" if form else "]"
    assert printed["subject_cn"] == r"\x1b[31m\x00evil"
    assert printed["sans"] == rf"a\x0a{bracket}"
    assert printed["issuer"].startswith(r"O=Acme\, Inc\"")
    assert r"\<132\>1 forged" in printed["issuer"]
    assert JsonFormat().line(event).isascii()
