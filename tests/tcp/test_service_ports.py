"""Services of a registry as TCP ports."""

from __future__ import annotations

import pytest

from deckwire.tcp.service_ports import answering, is_known, is_listed


@pytest.mark.parametrize(
    ("services", "port", "listed"),
    [
        (["ssh"], 22, True),
        (["SSH"], 22, True),
        (["ssh"], 23, False),
        (["http", "https"], 443, True),
        (["smtp"], 587, True),
        (["ftp"], 21, True),
        (["ftp"], 50_000, True),
        (["ftp"], 22, False),
        (["8080"], 8080, True),
        (["8080"], 80, False),
        (["snmp"], 161, False),
        ([], 22, None),
        (["ssh", "honeypot-x"], 22, None),
        (["0"], 22, None),
        (["65536"], 22, None),
        (["²2"], 22, None),
    ],
)
def test_a_port_belongs_to_a_service_or_to_none(
    services: list[str], port: int, listed: bool | None
) -> None:
    assert is_listed(services, port) is listed
    assert all(map(is_known, services)) == (listed is not None or not services)


@pytest.mark.parametrize(
    ("services", "port", "service"),
    [
        (["ssh"], 22, "ssh"),
        (["SSH", "http"], 22, "SSH"),
        (["8080"], 8080, "8080"),
        (["ssh"], 23, None),
        # A service may have none of its other ports.
        (["smb"], 445, "smb"),
        (["smb"], 139, None),
        (["smtp"], 587, None),
        (["ftp"], 20, None),
        # These may use UDP only.
        (["dns", "sip", "snmp"], 53, None),
        (["dns", "sip"], 5060, None),
        ([], 22, None),
        (["ssh", "honeypot-x"], 22, None),
        (["²2"], 22, None),
    ],
)
def test_a_service_must_answer_on_its_port(
    services: list[str], port: int, service: str | None
) -> None:
    assert answering(services, port) == service
    assert service is None or is_listed(services, port)
