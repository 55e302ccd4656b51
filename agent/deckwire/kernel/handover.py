"""Messages between agent and loader: a JSON object with file descriptors, over a socket pair."""

from __future__ import annotations

import json
import os
import socket
from array import array
from typing import Any

FDS_PER_MESSAGE = 253
"""SCM_MAX_FD: the kernel takes no more at once, a host with many CPUs has more."""
BODY_BYTES = 65_536
"""Longest JSON object; SO_SNDBUF's default of 208 KB has room for it."""
FDS = 65_536
"""Most file descriptors behind one object."""


class HandoverError(Exception):
    """The other side ended before the whole message was there, or sent no message of ours."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, body: dict[str, Any], fds: list[int]) -> None:
    """Sends `body` and copies of `fds`.

    Raises:
        OSError: the other side is gone.
        ValueError: the body is longer than BODY_BYTES.
    """
    data = json.dumps({"fds": len(fds), "body": body}).encode()
    if len(data) > BODY_BYTES:
        raise ValueError(f"a message of {len(data)} bytes")
    channel.send(data)
    for first in range(0, len(fds), FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"\0"], fds[first : first + FDS_PER_MESSAGE])


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message: its body and its file descriptors, which the caller owns.

    Raises:
        HandoverError: there is none.
        TimeoutError: the channel's timeout passed.
    """
    data = channel.recv(BODY_BYTES + 1)
    try:
        message = json.loads(data)
        body, count = message["body"], message["fds"]
    except (ValueError, TypeError, KeyError) as error:
        raise HandoverError("no message") from error
    if not isinstance(body, dict) or not isinstance(count, int) or not 0 <= count <= FDS:
        raise HandoverError("no message")
    fds: list[int] = []
    try:
        while len(fds) < count:
            more, whole = _receive_fds(channel)
            fds += more
            if not more or not whole:
                raise HandoverError(f"{len(fds)} of {count} file descriptors arrived")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return body, fds


def _receive_fds(channel: socket.socket) -> tuple[list[int], bool]:
    """One message's descriptors, and whether all of it fitted.

    Not socket.recv_fds(): it drops the flag that keeps descriptors from our child processes.
    """
    fds = array("i")
    _, ancillary, flags, _ = channel.recvmsg(
        1, socket.CMSG_LEN(FDS_PER_MESSAGE * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds), not flags & socket.MSG_CTRUNC
