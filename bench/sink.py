"""A server that reads everything and sends nothing. It runs on a decky as its own program."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import sys

_BACKLOG = 4_096


def main() -> None:
    """Serve the port of the first argument, by IPv4 and IPv6, until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(
        ("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
    )
    with listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and _is_over(key.fileobj):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def _is_over(connection: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        try:
            return not connection.recv(65_536)
        except OSError:
            return True
    return False


if __name__ == "__main__":
    main()
