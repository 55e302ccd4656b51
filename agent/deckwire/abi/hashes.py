"""The hashes of the kernel side: hash.h, and session_id_hash() of client_hello.h.

Seeds are those in the kernel's settings. All values are unsigned and have 64 bits.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from deckwire.abi.structs import ADDRESSES, ENDS, FLOW_ID, FLOW_KEY_PORTS
from deckwire.limits import SERVED_PAIRS
from deckwire.tcp.addresses import MAPPED_PREFIX

HASH_FACTOR = 0x9E3779B97F4A7C15
SESSION_ID_BYTES = 32
"""Longest session id (RFC 8446, 4.1.2); shorter ones are padded with zeros."""

_MASK = (1 << 64) - 1
_ADDRESS = Struct("<4I")
_SESSION_ID = Struct(f"<{SESSION_ID_BYTES // 8}Q")


def mix(value: int, word: int) -> int:
    """Mix a word into an unseeded hash, or a byte into a seeded one."""
    value = (value ^ word) * HASH_FACTOR & _MASK
    return value ^ value >> 29


def absorb(value: int, word: int) -> int:
    """Mix a word that an attacker may choose into a hash that begins with a seed."""
    both = value ^ word
    value = both * HASH_FACTOR & _MASK
    return value ^ value >> 29 ^ (both & 0xFFFF_FFFF) * (both >> 32)


def filter_bit(packed: bytes) -> int:
    """The bit of a 16-byte address in the deckies' Bloom filter, 0 to DECKY_BITS - 1.

    filter_bit4() of a v4-mapped address, filter_bit6() of any other.
    """
    if packed.startswith(MAPPED_PREFIX):
        address = int.from_bytes(packed[len(MAPPED_PREFIX) :], "big")
        return address * HASH_FACTOR % 2**64 >> 48
    first, second, third, fourth = _ADDRESS.unpack(packed)
    return mix(mix(0, first << 32 | second), third << 32 | fourth) >> 48


def flow_id(key: bytes, seed: int) -> bytes:
    """Make the key of the flows map (struct flow_id) from a flow key: make_id()."""
    low, high = ADDRESSES.unpack(key)
    a0, a1, a2, a3 = _ADDRESS.unpack(low)
    b0, b1, b2, b3 = _ADDRESS.unpack(high)
    ports = key[FLOW_KEY_PORTS:]
    if low.startswith(MAPPED_PREFIX):
        return FLOW_ID.pack(a3 << 32 | b3, ports, 4)
    ends = seed
    for word in (a0 << 32 | a1, a2 << 32 | a3, b0 << 32 | b1, b2 << 32 | b3):
        ends = absorb(ends, word)
    return FLOW_ID.pack(ends, ports, 6)


def address_hash(packed: bytes, seed: int) -> int:
    """The seeded hash of a 16-byte address: probe_hash()."""
    first, second, third, fourth = _ADDRESS.unpack(packed)
    if packed.startswith(MAPPED_PREFIX):
        return absorb(seed, fourth)
    return absorb(absorb(seed, first << 32 | second), third << 32 | fourth)


def service_signature(key: bytes, client: int, seed: int, event: int) -> int:
    """Make the signature of a connection's client and service: service_signature().

    `client` is the end that opened it. `event` is one of abi.structs.SERVICE_*.
    """
    low, high, low_port, high_port = ENDS.unpack(key)
    if client & 1:
        return absorb(_pair_hash(high, low, seed), low_port << 8 | event)
    return absorb(_pair_hash(low, high, seed), high_port << 8 | event)


# Each connection asks at its handshake and at its end, and most clients come again.
@lru_cache(maxsize=SERVED_PAIRS)
def _pair_hash(client: bytes, server: bytes, seed: int) -> int:
    """The addresses' part of a service's signature."""
    value = seed
    for address in (client, server):
        first, second, third, fourth = _ADDRESS.unpack(address)
        value = absorb(absorb(value, first << 32 | second), third << 32 | fourth)
    return value


def decky_bit(key: bytes, client: int) -> int:
    """The bit of a connection's server in the deckies of a suppression window: decky_bit()."""
    _, _, third, fourth = _ADDRESS.unpack(ADDRESSES.unpack(key)[1 - (client & 1)])
    return 1 << (mix(fourth, third) >> 58)


def session_id_hash(session_id: bytes, seed: int) -> int:
    """The hash of a session id of at most SESSION_ID_BYTES: session_id_hash()."""
    value = absorb(seed, len(session_id))
    for word in _SESSION_ID.unpack(session_id.ljust(SESSION_ID_BYTES, b"\0")):
        value = absorb(value, word)
    return value


def slots_of(signature: int, slots: int) -> tuple[int, int]:
    """The two slots of a signature in a table of suppression windows: seen_slot().

    `slots` is a power of two. Both may be the same.
    """
    return signature >> 32 & slots - 1, signature >> 46 & slots - 1
