"""VNC (RFC 6143): the version that the client wants, and its answer to a challenge."""

from __future__ import annotations

from deckwire.payloads.finding import CLIENT, Finding, Secret, shown

_VERSION_BYTES = 12
_OLD = b"003.003"
_WITH_PASSWORD = 2


def read_vnc(client: bytes, server: bytes) -> Finding:
    """Read the version. The answer to a challenge shows the password to who tries many."""
    version = client[4:11]
    at = _VERSION_BYTES
    if version == _OLD:
        # The server chooses, and the client does not repeat it.
        kind = int.from_bytes(server[at : at + 4])
    else:
        kind, at = client[at] if at < len(client) else 0, at + 1
    is_secret = kind == _WITH_PASSWORD and at < len(client)
    return Finding(
        (("vnc_version", shown(version)),) if version else (),
        (Secret(CLIENT, at, len(client)),) if is_secret else (),
    )
