"""HASSH: what an SSH client or server offers, as an MD5 hash (Salesforce, 2018)."""

from __future__ import annotations

from hashlib import md5

from deckwire.ssh.messages import KexInit


def algorithms(kexinit: KexInit, *, of_client: bool) -> bytes:
    """The lists that are hashed, joined with ``;``: of the direction in which the end sends."""
    if of_client:
        lists = kexinit.ciphers_to_server, kexinit.macs_to_server, kexinit.compressions_to_server
    else:
        lists = kexinit.ciphers_to_client, kexinit.macs_to_client, kexinit.compressions_to_client
    return b";".join((kexinit.kex, *lists))


def hassh(lists: bytes) -> str:
    """HASSH or HASSHServer of joined lists."""
    return md5(lists, usedforsecurity=False).hexdigest()
