"""An HTTPS receiver for tests that kill it: arguments PORT CERTIFICATE KEY FILE.

It answers 200 when the lines are in the file. Every tenth answer is 503, and every tenth is lost
after the lines were written.
"""

from __future__ import annotations

import gzip
import os
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Appends each batch to the file."""

    protocol_version = "HTTP/1.1"
    file = -1
    requests = 0

    def do_POST(self) -> None:
        """Take one batch."""
        Handler.requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        turn = Handler.requests % 10
        if turn != 3:
            os.write(self.file, gzip.decompress(body))
        if turn == 7:
            self.close_connection = True
            return
        self.send_response(503 if turn == 3 else 200)
        if turn == 3:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(port: int, certificate: str, key: str, path: str) -> None:
    """Serve until the process is killed."""
    Handler.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:5])
