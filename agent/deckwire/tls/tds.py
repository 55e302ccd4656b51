"""TLS inside the packets of MS-SQL's protocol TDS, as it is during the handshake."""

from __future__ import annotations

HEADER_BYTES = 8
_PRELOGIN, _RESPONSE = 0x12, 0x04
_STATUS_BITS = 0x01


def tds_payload(header: bytes) -> int | None:
    """Return the payload length that the header of a TDS packet gives; None if it is none.

    Only packets that may carry TLS count (MS-TDS, 2.2.3.1).
    """
    if len(header) < HEADER_BYTES or header[0] not in {_PRELOGIN, _RESPONSE}:
        return None
    length = int.from_bytes(header[2:4], "big")
    if header[1] & ~_STATUS_BITS or header[7] or length <= HEADER_BYTES:
        return None
    return length - HEADER_BYTES


class TdsPackets:
    """Takes the headers of TDS packets out of one direction's bytes.

    After the handshake TLS goes on without packets: then the bytes pass as they are.
    """

    def __init__(self, left: int) -> None:
        """`left` bytes of the first packet are still to come; its header has passed."""
        self._left = left
        self._header = b""
        self._unwrapped = False

    def unwrap(self, data: bytes) -> bytes:
        """Return the bytes without headers. A header that is not complete waits."""
        found = bytearray()
        data = self._header + data
        self._header = b""
        at = 0
        while at < len(data):
            if self._unwrapped:
                found += data[at:]
                break
            chunk = data[at : at + self._left]
            found += chunk
            at += len(chunk)
            self._left -= len(chunk)
            if self._left or at >= len(data):
                break
            if data[at] not in {_PRELOGIN, _RESPONSE}:
                self._unwrapped = True
                continue
            header = data[at : at + HEADER_BYTES]
            if len(header) < HEADER_BYTES:
                self._header = header
                break
            left = tds_payload(header)
            if left is None:
                self._unwrapped = True
                continue
            self._left = left
            at += HEADER_BYTES
        return bytes(found)
