"""The TCP ports of services by their names, as far as these are in common use."""

from __future__ import annotations

from collections.abc import Container, Iterable

_Ports = tuple[Container[int], ...]

_PASSIVE = range(1_024, 65_536)
"""Ports that a service opens for one client, for as long as a transfer takes."""


def _ports(*numbers: int) -> _Ports:
    return (frozenset(numbers),)


_PORTS: dict[str, _Ports] = {
    "dns": _ports(53),
    "elasticsearch": _ports(9200, 9300),
    "ftp": (frozenset({20, 21}), _PASSIVE),
    "http": _ports(80),
    "https": _ports(443),
    "imap": _ports(143, 993),
    "imaps": _ports(993),
    "ldap": _ports(389, 636),
    "ldaps": _ports(636),
    "memcached": _ports(11211),
    "mongodb": _ports(27017),
    "mqtt": _ports(1883, 8883),
    "mssql": _ports(1433),
    "mysql": _ports(3306),
    "oracle": _ports(1521),
    "pop3": _ports(110, 995),
    "pop3s": _ports(995),
    "postgres": _ports(5432),
    "postgresql": _ports(5432),
    "rdp": _ports(3389),
    "redis": _ports(6379),
    "sip": _ports(5060, 5061),
    "smb": _ports(139, 445),
    "smtp": _ports(25, 465, 587),
    "smtps": _ports(465),
    "snmp": _ports(),
    "ssh": _ports(22),
    "telnet": _ports(23),
    "tftp": _ports(),
    "vnc": _ports(5900),
}


def is_known(service: str) -> bool:
    """Whether the ports of a service are known: by its name, or because it is a port's number."""
    return _of(service) is not None


def is_listed(services: Iterable[str], port: int) -> bool | None:
    """Whether one of the services may answer on a TCP port; None if one of them is unknown."""
    found = [_of(service) for service in services]
    if not found or None in found:
        return None
    return any(port in one for ports in found if ports is not None for one in ports)


_USUAL = {
    "elasticsearch": 9200,
    "ftp": 21,
    "http": 80,
    "https": 443,
    "imap": 143,
    "imaps": 993,
    "ldap": 389,
    "ldaps": 636,
    "memcached": 11211,
    "mongodb": 27017,
    "mqtt": 1883,
    "mssql": 1433,
    "mysql": 3306,
    "pop3": 110,
    "pop3s": 995,
    "postgres": 5432,
    "postgresql": 5432,
    "rdp": 3389,
    "redis": 6379,
    "smb": 445,
    "smtp": 25,
    "ssh": 22,
    "telnet": 23,
    "vnc": 5900,
}
"""The port on which a service by its name answers if any. Others may be there for UDP only."""


def answering(services: Iterable[str], port: int) -> str | None:
    """The service that must answer on a TCP port; None if none must, or if one is unknown."""
    services = tuple(services)
    if any(_of(service) is None for service in services):
        return None
    for service in services:
        if (service.isdigit() and int(service) == port) or _USUAL.get(service.lower()) == port:
            return service
    return None


def _of(service: str) -> _Ports | None:
    if service.isascii() and service.isdigit() and len(service) <= 5:
        port = int(service)
        return _ports(port) if 0 < port < 65_536 else None
    return _PORTS.get(service.lower())
