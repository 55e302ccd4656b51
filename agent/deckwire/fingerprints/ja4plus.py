"""JA4S, JA4X, JA4T, JA4TS and JA4L: the methods of FoxIO's JA4+ suite that Deckwire computes.

JA4+ is licensed under the FoxIO License 1.1 (non-commercial use and distribution; notices kept;
https://github.com/FoxIO-LLC/ja4/blob/main/LICENSE) and FoxIO states that patents are pending.
JA4 itself is not part of it: BSD-3-Clause, in `ja4`. The methods stand in this module of their
own, written from their published definitions, so that ``ja4plus = false`` leaves them all out.
They run in user space only; no BPF program contains any of them.
"""

from __future__ import annotations

from functools import lru_cache

from deckwire.fingerprints.ja4 import (
    alpn_tag,
    count_tag,
    hex_list,
    short_hash,
    version_tag,
    without_grease,
)
from deckwire.limits import JA4X_CACHE, LATENCIES, OPTION_WALKS
from deckwire.tcp.options import TcpOptions
from deckwire.tls.messages import ServerHello


def ja4s(hello: ServerHello) -> str:
    """JA4S: version, extension count, chosen ALPN, cipher suite, hash of the extensions."""
    return _ja4s(hello, short_hash(_server_extensions(hello)))


def ja4s_r(hello: ServerHello) -> str:
    """As `ja4s` with the extensions, in wire order, in plain text."""
    return _ja4s(hello, _server_extensions(hello))


# Servers send the same few certificates all the time.
@lru_cache(maxsize=JA4X_CACHE)
def ja4x(issuer: tuple[str, ...], subject: tuple[str, ...], extensions: tuple[str, ...]) -> str:
    """JA4X of one certificate, from its OIDs in order of appearance.

    Each OID is the lower-case hex of its DER content, e.g. ``550403`` for commonName.
    """
    return "_".join([short_hash(",".join(part)) for part in (issuer, subject, extensions)])


def ja4t(window: int, options: TcpOptions) -> str:
    """JA4T of a SYN, JA4TS of a SYN-ACK (short form, without retransmission timings).

    `window` is the raw 16-bit field.
    """
    return f"{window}_{_joined(options.kinds)}_{options.mss or 0:02d}_{options.wscale or '00'}"


# Three events of a connection tell the same two.
@lru_cache(maxsize=LATENCIES)
def ja4l(rtt_us: int, ttl: int) -> str:
    """JA4L of a client, JA4LS of a server (two-part form).

    `rtt_us` is the time in microseconds from the SYN to the SYN-ACK for the server, from the
    SYN-ACK to the client's first ACK for the client; half of it is the one-way latency. `ttl` is
    that of the SYN-ACK and of the SYN, as they arrived.
    """
    return f"{rtt_us // 2}_{ttl}"


@lru_cache(maxsize=OPTION_WALKS)
def _joined(kinds: tuple[int, ...]) -> str:
    return "-".join(map(str, kinds)) or "00"


def _ja4s(hello: ServerHello, extensions: str) -> str:
    version = hello.legacy_version if hello.selected_version is None else hello.selected_version
    count = len(without_grease(kind for kind, _ in hello.extensions))
    return (
        f"t{version_tag(version)}{count_tag(count)}{alpn_tag(hello.alpn)}"
        f"_{hello.cipher_suite:04x}_{extensions}"
    )


def _server_extensions(hello: ServerHello) -> str:
    return hex_list(without_grease(kind for kind, _ in hello.extensions))
