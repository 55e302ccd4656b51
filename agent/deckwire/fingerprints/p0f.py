"""A SYN or SYN-ACK packet in the terms of p0f v3, and the raw signature that p0f prints for it.

The model and its rules are those of p0f 3.09b (p0f README, section 5), without two errors of that
program. docs/systems.md names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from deckwire.tcp import options as tcp_options
from deckwire.tcp.syn_packet import ACK, CWR, ECE, NS, PSH, URG, SynPacket

_QUIRK_NAMES = (
    "df",
    "id+",
    "id-",
    "ecn",
    "0+",
    "flow",
    "seq-",
    "ack+",
    "ack-",
    "uptr+",
    "urgf+",
    "pushf+",
    "ts1-",
    "ts2+",
    "opt+",
    "exws",
    "bad",
)
QUIRKS = {name: 1 << position for position, name in enumerate(_QUIRK_NAMES)}
"""One bit for each quirk, in the order in which p0f prints them."""

OPTION_NAMES = {
    tcp_options.NOP: "nop",
    tcp_options.MSS: "mss",
    tcp_options.WSCALE: "ws",
    tcp_options.SACK_PERMITTED: "sok",
    tcp_options.SACK: "sack",
    tcp_options.TIMESTAMPS: "ts",
}
"""Names in an option layout. The end of options is ``eol+N``, every other kind ``?KIND``."""

MAX_DISTANCE = 35
"""Largest distance in hops that p0f accepts for a match that is not fuzzy."""

_MAX_OPTIONS = 24
"""Number of options that p0f reads; a longer list has the quirk ``bad``."""
_MAX_WSCALE = 14  # RFC 7323, 2.3
_TCP_HEADER = 20
_IP_HEADER = {4: 20, 6: 40}
_ETHERNET_MTU = 1500
_TIMESTAMPS_SPACE = 12  # the option and two NOPs
_MIN_MULTIPLE_MSS = 100
_INITIAL_TTLS = (32, 64, 128, 255)
_MAX_HOP_DISTANCE = 64


class Direction(Enum):
    """SYN or SYN-ACK, by the names of the sections of a signature file."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Observation:
    """The facts that signatures are compared with; an absent MSS or window scale is 0."""

    direction: Direction
    ver: int
    ttl: int
    olen: int
    """Length of IP options or IPv6 extension headers in bytes."""
    mss: int
    wsize: int
    multiple: tuple[str, int] | None
    """``("mss", N)`` or ``("mtu", N)`` if the window is N times one of these."""
    scale: int
    layout: tuple[int, ...]
    """TCP option kinds in wire order, with the end of options."""
    padding: int
    """Number of bytes after the end of options."""
    quirks: int
    """Bits of QUIRKS."""
    payload: bool

    @property
    def quirk_names(self) -> tuple[str, ...]:
        """The names of the quirks, in the order in which p0f prints them."""
        return tuple([name for name, bit in QUIRKS.items() if self.quirks & bit])

    @property
    def signature(self) -> str:
        """Return the raw signature, ``ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass``."""
        distance = distance_guess(self.ttl)
        hops = str(distance) if distance <= MAX_DISTANCE else "?"
        window = "{}*{}".format(*self.multiple) if self.multiple else str(self.wsize)
        layout = ",".join([option_name(kind, self.padding) for kind in self.layout])
        quirks = ",".join(self.quirk_names)
        return (
            f"{self.ver}:{self.ttl}+{hops}:{self.olen}:{self.mss}:{window},{self.scale}"
            f":{layout}:{quirks}:{'+' if self.payload else '0'}"
        )


def option_name(kind: int, padding: int) -> str:
    """Return an entry of an option layout as p0f writes it."""
    if kind == tcp_options.EOL:
        return f"eol+{padding}"
    return OPTION_NAMES.get(kind, f"?{kind}")


def initial_ttl(ttl: int) -> int:
    """Return the usual initial value of a TTL or hop limit: 32, 64, 128 or 255."""
    return next(initial for initial in _INITIAL_TTLS if ttl <= initial)


def distance_guess(ttl: int) -> int:
    """Return the number of hops from the usual initial value."""
    return initial_ttl(ttl) - ttl


def hop_distance(ttl: int) -> int:
    """Return the number of hops from the usual initial value, at most 64 (docs/events.md)."""
    return min(distance_guess(ttl), _MAX_HOP_DISTANCE)


def observe(syn_packet: SynPacket, syn_mss: int | None = None) -> Observation:
    """Return the observation of a SYN or SYN-ACK packet.

    `syn_mss` is the MSS of the SYN that a SYN-ACK responds to. Some systems choose a multiple of
    it as their window.
    """
    options = tcp_options.read(syn_packet.options)
    mss = options.mss or 0
    return Observation(
        direction=Direction.RESPONSE if syn_packet.flags & ACK else Direction.REQUEST,
        ver=syn_packet.ip_version,
        ttl=syn_packet.ttl,
        olen=syn_packet.ip_options_len,
        mss=mss,
        wsize=syn_packet.window,
        multiple=_window_multiple(syn_packet, mss, options, syn_mss),
        scale=options.wscale or 0,
        layout=options.layout[:_MAX_OPTIONS],
        padding=options.padding or 0,
        quirks=_ip_quirks(syn_packet)
        | _tcp_quirks(syn_packet)
        | _option_quirks(syn_packet, options),
        payload=syn_packet.payload_len > 0,
    )


def _window_multiple(
    syn_packet: SynPacket, mss: int, options: tcp_options.TcpOptions, syn_mss: int | None
) -> tuple[str, int] | None:
    """Return the first unit, in p0f's order, that divides the window, and the factor."""
    if syn_packet.window == 0 or mss < _MIN_MULTIPLE_MSS:
        return None
    ip_header = _IP_HEADER[syn_packet.ip_version]
    headers = ip_header + syn_packet.ip_options_len + _TCP_HEADER + len(syn_packet.options)
    own_timestamp = options.timestamp is not None and options.timestamp[0] != 0

    divisors = [("mss", mss)]
    if own_timestamp:
        divisors.append(("mss", mss - _TIMESTAMPS_SPACE))
    # IPv4 sizes come first in both versions, because a stack may choose its window for either.
    for header in (20, 40) if syn_packet.ip_version == 6 else (20,):
        largest = _ETHERNET_MTU - header - _TCP_HEADER
        divisors += [("mss", largest), ("mss", largest - _TIMESTAMPS_SPACE)]
    divisors += [("mtu", mss + 20 + _TCP_HEADER), ("mtu", mss + headers)]
    if syn_packet.ip_version == 6:
        divisors.append(("mtu", mss + 40 + _TCP_HEADER))
    divisors.append(("mtu", _ETHERNET_MTU))
    if syn_mss is not None:
        divisors += [("mss", syn_mss), ("mss", syn_mss - _TIMESTAMPS_SPACE)]

    for unit, divisor in divisors:
        if divisor > 0 and syn_packet.window % divisor == 0:
            return unit, syn_packet.window // divisor
    return None


def _ip_quirks(syn_packet: SynPacket) -> int:
    names = []
    if syn_packet.ip_version == 4:
        if syn_packet.df:
            names.append("df")
        if syn_packet.df and syn_packet.ip_id != 0:
            names.append("id+")
        if not syn_packet.df and syn_packet.ip_id == 0:
            names.append("id-")
        if syn_packet.ip_reserved:
            names.append("0+")
    elif syn_packet.flow_label != 0:
        names.append("flow")
    if syn_packet.tos & 0b11 or syn_packet.flags & (ECE | CWR | NS):
        names.append("ecn")
    return _bits(names)


def _tcp_quirks(syn_packet: SynPacket) -> int:
    names = []
    if syn_packet.seq == 0:
        names.append("seq-")
    if syn_packet.flags & ACK:
        if syn_packet.ack == 0:
            names.append("ack-")
    elif syn_packet.ack != 0:
        names.append("ack+")
    if syn_packet.flags & URG:
        names.append("urgf+")
    elif syn_packet.urgent != 0:
        names.append("uptr+")
    if syn_packet.flags & PSH:
        names.append("pushf+")
    return _bits(names)


def _option_quirks(syn_packet: SynPacket, options: tcp_options.TcpOptions) -> int:
    names = []
    if options.timestamp is not None:
        own, peer = options.timestamp
        if own == 0:
            names.append("ts1-")
        if peer != 0 and not syn_packet.flags & ACK:
            names.append("ts2+")
    if options.padding_nonzero:
        names.append("opt+")
    if options.wscale is not None and options.wscale > _MAX_WSCALE:
        names.append("exws")
    if options.malformed or len(options.layout) > _MAX_OPTIONS:
        names.append("bad")
    return _bits(names)


def _bits(names: list[str]) -> int:
    return sum(QUIRKS[name] for name in names)
