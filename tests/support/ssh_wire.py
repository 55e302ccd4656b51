"""The clear text of SSH as bytes: packets, KEXINITs, and whole beginnings of both directions."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import md5
from struct import pack

IGNORE, KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY = 2, 20, 21, 30, 31

CLIENT_LISTS = (
    b"curve25519-sha256,ecdh-sha2-nistp256,ext-info-c,kex-strict-c-v00@openssh.com",
    b"ssh-ed25519,rsa-sha2-512",
    b"chacha20-poly1305@openssh.com,aes128-ctr",
    b"aes256-gcm@openssh.com",
    b"umac-64@openssh.com,hmac-sha2-256",
    b"hmac-sha1",
    b"none,zlib@openssh.com",
    b"zlib",
    b"",
    b"",
)
SERVER_LISTS = (
    b"curve25519-sha256,kex-strict-s-v00@openssh.com",
    b"ssh-ed25519",
    b"aes128-ctr",
    b"aes256-ctr,aes192-ctr",
    b"hmac-sha2-512",
    b"hmac-sha2-256",
    b"none",
    b"none,zlib",
    b"",
    b"",
)
"""Name lists in the order of RFC 4253, 7.1. No two are equal that HASSH distinguishes."""
CLIENT_BANNER, SERVER_BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2", b"SSH-2.0-dropbear_2022.83"


def kexinit(lists: Sequence[bytes] = CLIENT_LISTS, cookie: bytes = bytes(range(16))) -> bytes:
    """The payload of a KEXINIT."""
    body = b"".join(pack(">I", len(names)) + names for names in lists)
    return bytes([KEXINIT]) + cookie + body + bytes(5)


def packet(payload: bytes) -> bytes:
    """A packet that is not encrypted, padded as RFC 4253, 6 has it."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 * (padding < 4)
    return pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


CLIENT = CLIENT_BANNER + b"\r\n" + packet(kexinit()) + packet(bytes([ECDH_INIT]) + bytes(36))
SERVER = (
    SERVER_BANNER
    + b"\r\n"
    + packet(kexinit(SERVER_LISTS))
    + packet(bytes([ECDH_REPLY]) + bytes(200))
    + packet(bytes([NEWKEYS]))
)


def client_hassh(lists: Sequence[bytes] = CLIENT_LISTS) -> str:
    """HASSH by its definition: lists 0, 2, 4 and 6."""
    return md5(b";".join(lists[at] for at in (0, 2, 4, 6)), usedforsecurity=False).hexdigest()


def server_hassh(lists: Sequence[bytes] = SERVER_LISTS) -> str:
    """HASSHServer by its definition: lists 0, 3, 5 and 7."""
    return md5(b";".join(lists[at] for at in (0, 3, 5, 7)), usedforsecurity=False).hexdigest()


def hassh_of(stream: bytes) -> str:
    """HASSH of what a client sent: its banner and its KEXINIT come first. "" if that is not whole.

    It shares nothing with the agent.
    """
    packets = stream.partition(b"\n")[2]
    if len(packets) < 5 or len(packets) < 4 + int.from_bytes(packets[:4]):
        return ""
    at, lists = 5 + 1 + 16, []
    for _ in range(10):
        size = int.from_bytes(packets[at : at + 4])
        lists.append(packets[at + 4 : at + 4 + size])
        at += 4 + size
    return client_hassh(lists)
