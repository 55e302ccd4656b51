"""Which signatures of segments the TCP of this kernel knows. A decky has the same kernel."""

from __future__ import annotations

import errno
import socket

_MACROS = {"KNOWS_MD5": 14, "KNOWS_AO": 38}
"""TCP_MD5SIG and TCP_AO_ADD_KEY of <linux/tcp.h>, by the macro of bpf/receiver.h."""


def known_signatures() -> dict[str, bool]:
    """The macros, with whether the kernel was built with that option (CONFIG_TCP_MD5SIG, _AO)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return {macro: _knows(probe, option) for macro, option in _MACROS.items()}


def _knows(probe: socket.socket, option: int) -> bool:
    try:
        # No key is that short, so none is set. Less than an int never reaches the option.
        probe.setsockopt(socket.IPPROTO_TCP, option, bytes(4))
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    return True
