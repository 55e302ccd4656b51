"""kernel.handover.receive: any bytes give a message or HandoverError."""

from __future__ import annotations

from deckwire.kernel import handover
from tests.fuzz.lines import check_message


def seeds() -> list[bytes]:
    return [
        b'{"fds": 0, "body": {"maps": {"flows": 3}, "ways": ["tcx"]}}',
        b'{"fds": 2, "body": {}}',
        b'{"fds": -1, "body": {}}',
        b'{"fds": true, "body": []}',
        b'{"fds": 1e99, "body": null}',
        b"[" * 40,
        b'"\\ud800"',
        b"\xff",
    ]


def check(data: bytes) -> None:
    ours, theirs = handover.pair()
    with ours, theirs:
        if data:
            theirs.send(data[: handover.BODY_BYTES])
        theirs.close()
        try:
            body, fds = handover.receive(ours)
        except handover.HandoverError as error:
            check_message(str(error))
            return
    assert isinstance(body, dict)
    assert fds == []
