"""Java RMI and WebLogic's T3."""

from __future__ import annotations

from deckwire.payloads.finding import Field, Finding, shown

_PROTOCOLS = {0x4B: "stream", 0x4C: "single_op", 0x4D: "multiplex"}
_SERIALIZED = b"\xac\xed\x00\x05"
"""Begins serialized objects (Java Object Serialization Specification, 6.4.2)."""


def read_rmi(client: bytes, _server: bytes) -> Finding:
    """Read which protocol of RMI it is (RMI Specification, 10.2), and whether it has objects."""
    name = _PROTOCOLS.get(client[6], "")
    return Finding((("rmi_protocol", name), *_objects(client)) if name else _objects(client))


def read_t3(client: bytes, _server: bytes) -> Finding:
    """Read the version that a client of T3 says it has."""
    version = client.split(b"\n", 1)[0].split(b" ", 1)[-1].rstrip(b"\r")
    return Finding((("t3_version", shown(version)), *_objects(client)))


def _objects(client: bytes) -> tuple[Field, ...]:
    return (("java_objects", True),) if _SERIALIZED in client else ()
