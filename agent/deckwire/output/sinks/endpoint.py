"""HOST:PORT, as users write it."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_PORT_LAST = 65_535
_ZONE = re.compile(r"[A-Za-z0-9._-]+")
_LABEL_LENGTH = 63
"""Longest part of a host name between dots (RFC 1035, 2.3.4)."""


def parse_endpoint(text: str) -> tuple[str, int]:
    """The host and port of ``HOST:PORT``; an IPv6 address stands in brackets.

    Raises ValueError with one line for the user.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("the port is missing; write HOST:PORT")
    if not (_PORT.fullmatch(port) and 0 < int(port) <= _PORT_LAST):
        raise ValueError(f"{port!r} is no port; use a number from 1 to {_PORT_LAST}")
    return _host(host), int(port)


def endpoint_text(host: str, port: int) -> str:
    """``host:port`` as the user writes it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise ValueError(f"{host!r} is no IPv6 address; write one as in [::1]:514")
        return host[1:-1]
    if ":" in host:
        raise ValueError(f"{host!r} is no host name; write an IPv6 address as in [::1]:514")
    labels = host.split(".")
    if not _HOST.fullmatch(host) or not all(0 < len(label) <= _LABEL_LENGTH for label in labels):
        raise ValueError(f"{host!r} is no host name or address; use one, as in logs.example:514")
    return host


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return False
    try:
        IPv6Address(address)
    except AddressValueError:
        return False
    return True
