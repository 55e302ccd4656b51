"""Random well-formed hellos, with all that clients and servers may send."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.support.flights import extension_block, u16, vector

GREASE = [0x0A0A + 0x1010 * n for n in range(16)]
SUITES = [
    *(0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014),
    *(0x009C, 0x009D, 0x002F, 0x0035, 0x000A, 0x0004, 0x0005, 0x00FF, 0x5600, 0x0000, 0xFFFF),
]
GROUPS = [29, 23, 24, 25, 30, 256, 257, 4588, 4587, 0x6399, 0x11EC, 22]
SIGNATURES = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601, 0x0201, 0x0904]
PROTOCOLS = [b"h2", b"http/1.1", b"h3", b"spdy/3.1", b"x", b"\xff\xfe", b"a b", b"smb", b"dot"]
NAMES = [b"www.example.com", b"a", b"xn--mnchen-3ya.example", b"10.0.0.1", b"*.example", b"x" * 250]

UNASSIGNED = range(0x0100, 0x3000)
"""Extension types that IANA has not assigned."""

EC_POINT_FORMATS, SUPPORTED_GROUPS = 11, 10


class RandomHello(NamedTuple):
    """The message body of a hello, and the types of its extensions."""

    body: bytes
    extensions: tuple[int, ...]
    """Types in wire order."""

    @property
    def repeated(self) -> set[int]:
        """Return the extension types that occur more than once."""
        return {kind for kind, count in Counter(self.extensions).items() if count > 1}


def random_client_hello(dice: random.Random) -> RandomHello:
    """Return a ClientHello that is well-formed, though a server may refuse it."""
    version = dice.choice([0x0300, 0x0301, 0x0302, *[0x0303] * 5])
    session_id = dice.randbytes(dice.choice([0, 0, 32, dice.randrange(33)]))
    suites = _list(dice, SUITES, dice.choice([1, 5, 16, 40, 300]))
    compression = dice.choice([b"\0", b"\0", b"\1\0", b"\0\1"])
    extensions = _extensions(dice, _CLIENT, dice.choice([0, 1, 3, 8, 16, 30]))
    head = u16(version) + dice.randbytes(32) + vector(1, session_id)
    body = head + vector(2, u16(*suites)) + vector(1, compression)
    return _hello(dice, body, extensions)


def random_server_hello(dice: random.Random) -> RandomHello:
    """Return a ServerHello of SSL 3.0 to TLS 1.3."""
    version = dice.choice([0x0300, 0x0301, 0x0302, *[0x0303] * 5])
    session_id = dice.randbytes(dice.choice([0, 32, dice.randrange(33)]))
    suite = dice.choice([*SUITES, dice.randrange(1 << 16)])
    extensions = _extensions(dice, _SERVER, dice.choice([0, 1, 2, 5, 9]), grease=False)
    head = u16(version) + dice.randbytes(32) + vector(1, session_id) + u16(suite)
    return _hello(dice, head + dice.choice([b"\0", b"\0", b"\1"]), extensions)


def _hello(dice: random.Random, head: bytes, extensions: list[tuple[int, bytes]]) -> RandomHello:
    if extensions or dice.random() < 0.3:
        head += extension_block(*extensions)
    return RandomHello(head, tuple(kind for kind, _ in extensions))


Maker = Callable[[random.Random], bytes]


def _extensions(
    dice: random.Random, makers: dict[int, Maker], count: int, *, grease: bool = True
) -> list[tuple[int, bytes]]:
    kinds = dice.sample(sorted(makers), min(count, len(makers)))
    if count and dice.random() < 0.05:
        kinds.append(dice.choice(kinds))  # a repeated extension, which RFC 8446, 4.2 forbids
    made = [(kind, makers[kind](dice)) for kind in kinds]
    if dice.random() < 0.3:
        # Unassigned types, because the body of a known type would have to be valid.
        unknown = [kind for kind in dice.sample(UNASSIGNED, 3) if kind not in GREASE]
        made += [(kind, dice.randbytes(dice.randrange(20))) for kind in unknown]
    if grease and dice.random() < 0.5:
        made.insert(0, (dice.choice(GREASE), b""))
        made.append((dice.choice(GREASE), b"\0"))
    return made


def _list(dice: random.Random, values: list[int], most: int) -> list[int]:
    if dice.random() < 0.04:
        return []  # well-formed, but every peer refuses it
    found = [dice.choice(values) for _ in range(dice.randint(1, most))]
    if dice.random() < 0.1:
        found += [dice.randrange(1 << 16) for _ in range(3)]
    if dice.random() < 0.5:
        found.insert(dice.randrange(len(found) + 1), dice.choice(GREASE))
    return found


def _server_name(dice: random.Random) -> bytes:
    return vector(2, b"\0" + vector(2, dice.choice(NAMES)))


def _groups(dice: random.Random) -> bytes:
    return vector(2, u16(*_list(dice, GROUPS, dice.choice([1, 4, 30]))))


def _point_formats(dice: random.Random) -> bytes:
    return vector(1, bytes(dice.choice([[0], [0, 1, 2], [1], [0, 2], []])))


def _signatures(dice: random.Random) -> bytes:
    return vector(2, u16(*_list(dice, SIGNATURES, 12)))


def _alpn(dice: random.Random) -> bytes:
    names = dice.sample(PROTOCOLS, dice.randint(1, 4))
    return vector(2, b"".join(vector(1, name) for name in names))


def _versions(dice: random.Random) -> bytes:
    return vector(1, u16(*_list(dice, [0x0304, 0x0303, 0x0302, 0x0301, 0x7F1C], 5)))


def _key_shares(dice: random.Random) -> bytes:
    groups = dice.sample([*GROUPS, dice.choice(GREASE)], dice.randint(1, 3))
    return vector(2, b"".join(u16(g) + vector(2, dice.randbytes(32)) for g in groups))


def _key_share(dice: random.Random) -> bytes:
    return u16(dice.choice(GROUPS)) + vector(2, dice.randbytes(32))


def _psk(dice: random.Random) -> bytes:
    identity = vector(2, dice.randbytes(20)) + dice.randbytes(4)
    return vector(2, identity) + vector(2, vector(1, dice.randbytes(32)))


def _ech(dice: random.Random) -> bytes:
    return b"\0" + u16(1, 1) + b"\5" + vector(2, dice.randbytes(32)) + vector(2, dice.randbytes(64))


def _opaque(*sizes: int) -> Maker:
    return lambda dice: dice.randbytes(dice.choice(sizes))


def _fixed(body: bytes) -> Maker:
    return lambda dice: body


_CLIENT: dict[int, Maker] = {
    0: _server_name,
    1: _fixed(b"\2"),
    5: _fixed(b"\1\0\0\0\0"),
    SUPPORTED_GROUPS: _groups,
    EC_POINT_FORMATS: _point_formats,
    13: _signatures,
    16: _alpn,
    18: _fixed(b""),
    21: lambda dice: bytes(dice.choice([0, 7, 200, 1_500])),
    22: _fixed(b""),
    23: _fixed(b""),
    27: _fixed(b"\2\0\2"),
    28: _fixed(b"\x40\1"),
    34: _signatures,
    35: _opaque(0, 0, 64, 200),
    41: _psk,
    42: _fixed(b""),
    43: _versions,
    45: _fixed(b"\1\1"),
    49: _fixed(b""),
    50: _signatures,
    51: _key_shares,
    13_172: _fixed(b""),
    17_513: lambda dice: vector(2, vector(1, b"h2")),
    30_032: _opaque(8, 32),
    0xFE0D: _ech,
    0xFF01: _fixed(b"\0"),
}

_SERVER: dict[int, Maker] = {
    0: _fixed(b""),
    1: _fixed(b"\2"),
    5: _fixed(b""),
    EC_POINT_FORMATS: _point_formats,
    16: lambda dice: vector(2, vector(1, dice.choice(PROTOCOLS))),
    22: _fixed(b""),
    23: _fixed(b""),
    35: _fixed(b""),
    41: _fixed(b"\0\0"),
    43: lambda dice: u16(0x0304),
    51: _key_share,
    0xFF01: _fixed(b"\0"),
}
