"""TCP options of a SYN or SYN-ACK: one tolerant walk, which all TCP fingerprints use."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from deckwire.limits import OPTION_WALKS

# Option kinds (IANA "TCP Option Kind Numbers").
EOL, NOP, MSS, WSCALE, SACK_PERMITTED, SACK = 0, 1, 2, 3, 4, 5
TIMESTAMPS: Final = 8
ALTERNATE_CHECKSUM_REQUEST, ALTERNATE_CHECKSUM_DATA = 14, 15
USER_TIMEOUT: Final = 28

_TIMESTAMPS_BYTES: Final = 10
_TIMESTAMPS_HEADER: Final = bytes((TIMESTAMPS, _TIMESTAMPS_BYTES))
_MSS_BYTES: Final = 4
_MSS_HEADER: Final = bytes((MSS, _MSS_BYTES))
_TIMES: Final = Struct(">II")
_BLOCK: Final = Struct(">II")
_SEQ_MASK: Final = 0xFFFF_FFFF
_SEQ_HALF: Final = 0x8000_0000
_MASKED_TIMES: Final = {
    (own, echoed): _TIMESTAMPS_HEADER + _TIMES.pack(own, echoed)
    for own in (False, True)
    for echoed in (False, True)
}
_FIXED_LENGTH: Final = {MSS: 4, WSCALE: 3, SACK_PERMITTED: 2, TIMESTAMPS: 10}
_SACK_LENGTHS: Final = range(10, 35, 8)  # one to four blocks (RFC 2018, 3)

_LETTERS: Final = {
    EOL: "E",
    NOP: "N",
    MSS: "M",
    WSCALE: "W",
    SACK_PERMITTED: "S",
    SACK: "S",
    TIMESTAMPS: "T",
    ALTERNATE_CHECKSUM_REQUEST: "A",
    ALTERNATE_CHECKSUM_DATA: "A",
    USER_TIMEOUT: "U",
}


class TcpOptions(NamedTuple):
    """The options of one segment, however badly they are formed.

    If an option is repeated, the last one counts.
    """

    layout: tuple[int, ...]
    """Kinds in wire order, NOPs included, up to and including the first end-of-options marker."""
    mss: int | None
    wscale: int | None
    """As sent; values above 14 are illegal (RFC 7323, 2.3) but kept."""
    sack_permitted: bool
    timestamp: tuple[int, int] | None
    """TSval and TSecr (RFC 7323, 3.2)."""
    padding: int | None
    """Bytes after the end-of-options marker; None without a marker."""
    padding_zeros: int
    """How many of those bytes are zero."""
    malformed: bool
    """An option ran past the end, or had a length that its kind cannot have."""

    @property
    def kinds(self) -> tuple[int, ...]:
        """The layout, and a 0 for each zero byte after the marker, as JA4T counts them."""
        return self.layout + (EOL,) * self.padding_zeros

    @property
    def padding_nonzero(self) -> bool:
        """Whether a byte after the marker is not zero (p0f's ``opt+``)."""
        return self.padding is not None and self.padding > self.padding_zeros


def alike(raw: bytes) -> bytes:
    """The option bytes, with each timestamp value that is not 0 replaced by 1.

    Only these values differ between two SYNs of a stack, and a fingerprint only asks whether they
    are 0. If the timestamps option is repeated, the first one is masked.
    """
    at = raw.find(_TIMESTAMPS_HEADER)
    end = at + _TIMESTAMPS_BYTES
    if at < 0 or end > len(raw) or not _is_whole(raw[:at]):
        return raw
    own, echoed = _TIMES.unpack_from(raw, at + 2)
    return raw[:at] + _MASKED_TIMES[own != 0, echoed != 0] + raw[end:]


def stamp(raw: bytes) -> int:
    """The sender's own timestamp (TSval), the first one if it is repeated; 0 without one.

    It is quicker than a walk, which is needed only if another option looks like it.
    """
    at = raw.find(_TIMESTAMPS_HEADER)
    if at < 0:
        return 0
    if at + _TIMESTAMPS_BYTES <= len(raw) and _is_whole(raw[:at]):
        return int(_TIMES.unpack_from(raw, at + 2)[0])
    timestamp = walk(raw).timestamp
    return 0 if timestamp is None else timestamp[0]


def mss(raw: bytes) -> int | None:
    """The MSS, the last one if it is repeated; None without one.

    Nearly all SYNs begin with it. A walk is needed only if another option looks like it.
    """
    if raw[:2] != _MSS_HEADER or len(raw) < _MSS_BYTES or raw.find(_MSS_HEADER, 2) >= 0:
        return read(raw).mss
    return raw[2] << 8 | raw[3]


# Cached, because each event of a connection reads the options of its SYN and SYN-ACK again.
def read(raw: bytes) -> TcpOptions:
    """Read the options like `walk`, but with timestamp values as `alike` leaves them."""
    return _read(alike(raw))


def walk(raw: bytes) -> TcpOptions:
    """Read the option bytes of one TCP header (RFC 9293, 3.1); any bytes give a value.

    The walk stops at the marker. It also stops at an option whose length cannot be followed (0, 1
    or past the end); its kind is the last one of the layout. A known kind with a wrong length that
    can be followed is passed over, and its value is not taken.
    """
    layout: list[int] = []
    mss: int | None = None
    wscale: int | None = None
    sack_permitted = False
    timestamp: tuple[int, int] | None = None
    padding: int | None = None
    padding_zeros = 0
    malformed = False

    at, end = 0, len(raw)
    while at < end:
        kind = raw[at]
        layout.append(kind)
        if kind == NOP:
            at += 1
            continue
        if kind == EOL:
            padding = end - at - 1
            padding_zeros = raw.count(0, at + 1)
            break
        length = raw[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            malformed = True
            break
        if length != _FIXED_LENGTH.get(kind, length) or (
            kind == SACK and length not in _SACK_LENGTHS
        ):
            malformed = True
        elif kind == MSS:
            mss = int.from_bytes(raw[at + 2 : at + 4], "big")
        elif kind == WSCALE:
            wscale = raw[at + 2]
        elif kind == SACK_PERMITTED:
            sack_permitted = True
        elif kind == TIMESTAMPS:
            timestamp = (
                int.from_bytes(raw[at + 2 : at + 6], "big"),
                int.from_bytes(raw[at + 6 : at + 10], "big"),
            )
        at += length

    return TcpOptions(
        layout=tuple(layout),
        mss=mss,
        wscale=wscale,
        sack_permitted=sack_permitted,
        timestamp=timestamp,
        padding=padding,
        padding_zeros=padding_zeros,
        malformed=malformed,
    )


def sack_blocks(raw: bytes) -> tuple[tuple[int, int], ...]:
    """The blocks of the first whole SACK option of a TCP header (RFC 2018, 3); none without one."""
    at = 0
    while at < len(raw) and raw[at] != EOL:
        if raw[at] == NOP:
            at += 1
            continue
        length = raw[at + 1] if at + 1 < len(raw) else 0
        if length < 2 or at + length > len(raw):
            break
        if raw[at] == SACK and length in _SACK_LENGTHS:
            return tuple(_BLOCK.iter_unpack(raw[at + 2 : at + length]))
        at += length
    return ()


def duplicate_block(ack: int, blocks: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
    """The bytes that came twice, if the first block of an ACK names such (RFC 2883, 4)."""
    if not blocks:
        return None
    start, end = blocks[0]
    if (ack - end) & _SEQ_MASK < _SEQ_HALF:
        return start, end
    if len(blocks) > 1:
        first, last = blocks[1]
        if (start - first) & _SEQ_MASK < _SEQ_HALF and (last - end) & _SEQ_MASK < _SEQ_HALF:
            return start, end
    return None


def options_sig(options: TcpOptions) -> str:
    """One letter for each option in wire order, joined with commas; "" without options.

    M is MSS, W window scale, T timestamps, S SACK-permitted and SACK, N no-operation, E end of
    options (once, at the end), A alternate checksum, U user timeout, ? anything else.
    """
    return _letters(options.layout)


@lru_cache(maxsize=OPTION_WALKS)
def _read(raw: bytes) -> TcpOptions:
    return walk(raw)


@lru_cache(maxsize=OPTION_WALKS)
def _is_whole(raw: bytes) -> bool:
    """Whether a walk reaches the end of these bytes, and so the option after them."""
    at = 0
    while at < len(raw):
        if raw[at] == NOP:
            at += 1
            continue
        length = raw[at + 1] if at + 1 < len(raw) else 0
        if raw[at] == EOL or length < 2:
            return False
        at += length
    return at == len(raw)


# Cached by the layout: there are far fewer layouts than options, which hold a time.
@lru_cache(maxsize=OPTION_WALKS)
def _letters(layout: tuple[int, ...]) -> str:
    return ",".join([_LETTERS.get(kind, "?") for kind in layout])
