from __future__ import annotations

from deckwire.payloads.ldap import read_ldap
from tests.support.payload_wire import ber, ldap_bind


def test_a_simple_bind() -> None:
    client = ldap_bind(b"cn=admin", b"hunter2") + ber(0x30, b"\2\1\2", ber(0x63, b""))
    found = read_ldap(client, b"")
    assert found is not None
    assert dict(found.fields) == {
        "login_user": "cn=admin",
        "login_password": "hunter2",
        "ldap_operations": ("bind", "search"),
        "login_method": "simple",
    }
    assert [client[at:end] for _, at, end in found.secrets] == [b"cn=admin", b"hunter2"]


def test_an_anonymous_bind_has_no_login() -> None:
    found = read_ldap(ldap_bind(b"", b""), b"")
    assert found is not None
    assert dict(found.fields) == {"ldap_operations": ("bind",), "login_method": "simple"}


def test_a_bind_by_sasl() -> None:
    sasl = ber(0xA3, ber(4, b"GSS-SPNEGO"), ber(4, b"NTLMSSP"))
    client = ber(0x30, b"\2\1\1", ber(0x60, b"\2\1\3", ber(4), sasl))
    found = read_ldap(client, b"")
    assert found is not None
    assert dict(found.fields)["login_method"] == "gss-spnego"
    assert [client[at:end] for _, at, end in found.secrets] == [b"\4\7NTLMSSP"]


def test_a_cut_bind() -> None:
    client = ldap_bind(b"cn=admin", b"hunter2")[:-3]
    found = read_ldap(client, b"")
    assert found is not None
    assert "login_password" not in dict(found.fields)
    assert [client[at:end] for _, at, end in found.secrets] == [b"cn=admin", b"hunt"]


def test_other_bytes_are_none_of_ldap() -> None:
    for client in (b"", b"\x30\x0c\2\1\1\x01\7", b"\x30\x89\2\1\1", b"\x31"):
        assert read_ldap(client, b"") is None
