"""Which handshake messages each end of TLS may send, and what they lead to (RFC 5246, 7.3 and 7.4).

A connection is followed by the messages that it reports on. Both ends may send ClientHellos until
one is answered. The server's table has a row for each stage. Messages that are in no row are passed
over. Those of MISPLACED_TYPES are counted there: an honest end sends none of them at that stage.
"""

from __future__ import annotations

from enum import IntEnum

CLIENT_HELLO = 1
SSL2_CLIENT_HELLO = 0x100
SERVER_HELLO = 2
HELLO_RETRY_REQUEST = 0x102
"""A ServerHello with a random value of its own (RFC 8446, 4.1.3): no number on the wire."""
CERTIFICATE = 11
CERTIFICATE_REQUEST = 13
SERVER_HELLO_DONE = 14
CLIENT_KEY_EXCHANGE = 16


class Stage(IntEnum):
    """How far the handshake has come: the server's messages decide."""

    HELLO_DUE = 0
    RETRY_TAKEN = 1
    """The server sent a HelloRetryRequest (RFC 8446, 4.1.4)."""
    HELLO_TAKEN = 2
    CHAIN_TAKEN = 3


class Step(IntEnum):
    """What a connection does with a message. A malformed hello leaves the stage as it was."""

    TAKE_CLIENT_HELLO = 1
    TAKE_SERVER_HELLO = 2
    TAKE_SERVER_CHAIN = 3
    TAKE_CLIENT_CHAIN = 4
    EXPECT_CLIENT_CHAIN = 5
    CLOSE = 6
    """The end sends nothing more in the clear that is reported."""
    TAKE_HELLO_AFTER_RETRY = 7


Row = dict[int, tuple[Step, Stage]]
"""By message type of the server: the step, and the stage after it."""


def _server(stage: Stage, more: Row) -> Row:
    return more | {
        CERTIFICATE_REQUEST: (Step.EXPECT_CLIENT_CHAIN, stage),
        SERVER_HELLO_DONE: (Step.CLOSE, stage),
    }


CLIENT: dict[int, Step] = {
    CLIENT_HELLO: Step.TAKE_CLIENT_HELLO,
    SSL2_CLIENT_HELLO: Step.TAKE_CLIENT_HELLO,
    CERTIFICATE: Step.TAKE_CLIENT_CHAIN,
    CLIENT_KEY_EXCHANGE: Step.CLOSE,
}
"""By message type. The client's messages change no stage."""
SERVER: dict[Stage, Row] = {
    Stage.HELLO_DUE: _server(
        Stage.HELLO_DUE,
        {
            SERVER_HELLO: (Step.TAKE_SERVER_HELLO, Stage.HELLO_TAKEN),
            HELLO_RETRY_REQUEST: (Step.TAKE_SERVER_HELLO, Stage.RETRY_TAKEN),
        },
    ),
    Stage.RETRY_TAKEN: _server(
        Stage.RETRY_TAKEN, {SERVER_HELLO: (Step.TAKE_HELLO_AFTER_RETRY, Stage.HELLO_TAKEN)}
    ),
    Stage.HELLO_TAKEN: _server(
        Stage.HELLO_TAKEN, {CERTIFICATE: (Step.TAKE_SERVER_CHAIN, Stage.CHAIN_TAKEN)}
    ),
    Stage.CHAIN_TAKEN: _server(Stage.CHAIN_TAKEN, {}),
}
CLIENT_HELLOS = frozenset((CLIENT_HELLO, SSL2_CLIENT_HELLO))
SERVER_HELLOS = frozenset((SERVER_HELLO, HELLO_RETRY_REQUEST))
MISPLACED_TYPES = CLIENT_HELLOS | SERVER_HELLOS | {CERTIFICATE}
"""Messages that are reported, and so are counted where they cannot be."""
