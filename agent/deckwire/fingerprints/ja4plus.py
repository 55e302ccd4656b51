"""JA4S, JA4X, JA4T, JA4TS and JA4L, methods of FoxIO's JA4+ suite.

JA4+ has the FoxIO License 1.1: non-commercial use and distribution, notices kept
(https://github.com/FoxIO-LLC/ja4/blob/main/LICENSE). FoxIO states that patents are pending. JA4
itself, in `ja4`, is BSD-3-Clause. These methods were written from their published definitions.
They have a module of their own so that ``ja4plus = false`` leaves all of them out. They run in
user space only; no BPF program contains any of them.
"""

from __future__ import annotations

from deckwire.fingerprints.ja4 import (
    alpn_tag,
    count_tag,
    hex_list,
    short_hash,
    version_tag,
    without_grease,
)
from deckwire.tcp.options import TcpOptions
from deckwire.tls.messages import ServerHello


def ja4s(hello: ServerHello) -> str:
    """Return JA4S: version, extension count, ALPN chosen, cipher suite, hash of the extensions."""
    return _ja4s(hello, short_hash(_server_extensions(hello)))


def ja4s_r(hello: ServerHello) -> str:
    """Return JA4S_r: like `ja4s`, but with the extensions in plain text, in wire order."""
    return _ja4s(hello, _server_extensions(hello))


def ja4x(issuer: tuple[str, ...], subject: tuple[str, ...], extensions: tuple[str, ...]) -> str:
    """Return JA4X of one certificate from its OIDs in order of appearance.

    Each OID is its DER content in lower-case hex, e.g. ``550403`` for commonName.
    """
    return "_".join([short_hash(",".join(part)) for part in (issuer, subject, extensions)])


def ja4t(window: int, options: TcpOptions) -> str:
    """Return JA4T of a SYN, or JA4TS of a SYN-ACK in its short form without retransmission times.

    `window` is the 16-bit field without scaling.
    """
    kinds = "-".join(map(str, options.kinds)) or "00"
    return f"{window}_{kinds}_{options.mss or 0:02d}_{options.wscale or '00'}"


def ja4l(rtt_us: int, ttl: int) -> str:
    """Return JA4L of a client, or JA4LS of a server, in its two-part form.

    `rtt_us` is in microseconds: for the server from the SYN to the SYN-ACK, for the client from
    the SYN-ACK to its first ACK. Half of it is the one-way latency. `ttl` is the TTL of the
    server's SYN-ACK, or of the client's SYN, on arrival.
    """
    return f"{rtt_us // 2}_{ttl}"


def _ja4s(hello: ServerHello, extensions: str) -> str:
    version = hello.legacy_version if hello.selected_version is None else hello.selected_version
    count = len(without_grease(kind for kind, _ in hello.extensions))
    return (
        f"t{version_tag(version)}{count_tag(count)}{alpn_tag(hello.alpn)}"
        f"_{hello.cipher_suite:04x}_{extensions}"
    )


def _server_extensions(hello: ServerHello) -> str:
    return hex_list(without_grease(kind for kind, _ in hello.extensions))
