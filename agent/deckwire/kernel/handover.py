"""Messages between agent and loader: a JSON object with file descriptors, over a socket pair."""

from __future__ import annotations

import json
import os
import socket
from array import array
from typing import Any

FDS_PER_MESSAGE = 253
"""SCM_MAX_FD: the kernel takes no more in one message. A host with many CPUs sends more."""
BODY_BYTES = 65_536
"""Longest JSON object; SO_SNDBUF's default of 208 KB has room for it."""
FDS = 65_536
"""Most file descriptors that go with one object."""


class HandoverError(Exception):
    """The message is malformed, too long or incomplete, or the other side has ended."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, body: dict[str, Any], fds: list[int]) -> None:
    """Sends `body` and copies of `fds`.

    Raises:
        OSError: the other side has ended.
        HandoverError: the body is longer than BODY_BYTES.
    """
    data = json.dumps({"fds": len(fds), "body": body}).encode()
    if len(data) > BODY_BYTES:
        raise HandoverError(f"a message of {len(data)} bytes, at most {BODY_BYTES} can be sent")
    channel.send(data)
    for first in range(0, len(fds), FDS_PER_MESSAGE):
        socket.send_fds(channel, [b"\0"], fds[first : first + FDS_PER_MESSAGE])


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Waits for the next message: its body and its file descriptors, which the caller owns.

    Raises:
        HandoverError: the other side has ended, or the message is malformed or incomplete.
        OSError: the channel failed, or its timeout passed (TimeoutError).
    """
    data = channel.recv(BODY_BYTES + 1)
    if not data:
        raise HandoverError("the other side has ended")
    body, count = _parse(data)
    fds: list[int] = []
    try:
        while len(fds) < count:
            more, complete = _receive_fds(channel)
            fds += more
            if not more or not complete:
                raise HandoverError(f"{len(fds)} of {count} file descriptors arrived")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return body, fds


def _parse(data: bytes) -> tuple[dict[str, Any], int]:
    """Body and number of descriptors. A longer message than BODY_BYTES arrives cut."""
    if len(data) > BODY_BYTES:
        raise HandoverError(f"a malformed message: longer than {BODY_BYTES} bytes")
    try:
        message = json.loads(data)
        body, count = message["body"], message["fds"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise HandoverError(f"a malformed message: {type(error).__name__}") from error
    if not isinstance(body, dict) or type(count) is not int or not 0 <= count <= FDS:
        raise HandoverError("a malformed message: a body and a number are expected")
    return body, count


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
