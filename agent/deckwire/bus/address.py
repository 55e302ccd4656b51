"""Where DECNET's bus is."""

from __future__ import annotations

import os
from collections.abc import Mapping

BUS_OF_DECNET = "decnet"
"""The value of the option `bus` that stands for DECNET's own rules."""
SYSTEM_SOCKET = "/run/decnet/bus.sock"
_USER_SOCKET = "~/.decnet/bus.sock"


def decnet_socket(environment: Mapping[str, str]) -> str | None:
    """The path of the bus's socket by DECNET's rules; None if the environment turns the bus off.

    The path of DECNET_BUS_SOCKET counts first. Then it is the system's socket if its directory
    exists, else the user's.
    """
    if environment.get("DECNET_BUS_ENABLED", "true").strip().lower() in ("false", "0", "no", "off"):
        return None
    if named := environment.get("DECNET_BUS_SOCKET"):
        return named
    if os.path.isdir(os.path.dirname(SYSTEM_SOCKET)):
        return SYSTEM_SOCKET
    return os.path.expanduser(_USER_SOCKET)
