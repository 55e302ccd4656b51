"""Which handshake messages each end may send, and what they lead to (RFC 5246, 7.3 and 7.4).

A connection is followed by the messages that it reports on. The table has a row for each end and
stage. Messages that are in no row are passed over. Those of MISPLACED_TYPES are counted there: an
honest end sends none of them at that stage.
"""

from __future__ import annotations

from enum import IntEnum

CLIENT_HELLO = 1
SERVER_HELLO = 2
CERTIFICATE = 11
CERTIFICATE_REQUEST = 13
SERVER_HELLO_DONE = 14
CLIENT_KEY_EXCHANGE = 16


class Stage(IntEnum):
    """How far the handshake of one end has come."""

    HELLO_DUE = 0
    HELLO_TAKEN = 1
    CHAIN_TAKEN = 2


class Step(IntEnum):
    """What a connection does with a message. A malformed hello leaves the stage as it was."""

    PASS = 0
    TAKE_CLIENT_HELLO = 1
    TAKE_SERVER_HELLO = 2
    TAKE_SERVER_CHAIN = 3
    TAKE_CLIENT_CHAIN = 4
    EXPECT_CLIENT_CHAIN = 5
    CLOSE = 6
    """The end sends nothing more in the clear that is reported."""


Row = dict[int, tuple[Step, Stage]]
"""By message type: the step, and the stage after it."""


def _client(stage: Stage, hello: Step) -> Row:
    return {
        CLIENT_HELLO: (hello, Stage.HELLO_TAKEN),
        CERTIFICATE: (Step.TAKE_CLIENT_CHAIN, stage),
        CLIENT_KEY_EXCHANGE: (Step.CLOSE, stage),
    }


def _server(stage: Stage, more: Row) -> Row:
    return more | {
        CERTIFICATE_REQUEST: (Step.EXPECT_CLIENT_CHAIN, stage),
        SERVER_HELLO_DONE: (Step.CLOSE, stage),
    }


CLIENT: dict[Stage, Row] = {
    Stage.HELLO_DUE: _client(Stage.HELLO_DUE, Step.TAKE_CLIENT_HELLO),
    # A second one answers a HelloRetryRequest (RFC 8446, 4.1.2). The first is the one reported.
    Stage.HELLO_TAKEN: _client(Stage.HELLO_TAKEN, Step.PASS),
}
SERVER: dict[Stage, Row] = {
    Stage.HELLO_DUE: _server(
        Stage.HELLO_DUE, {SERVER_HELLO: (Step.TAKE_SERVER_HELLO, Stage.HELLO_TAKEN)}
    ),
    Stage.HELLO_TAKEN: _server(
        Stage.HELLO_TAKEN, {CERTIFICATE: (Step.TAKE_SERVER_CHAIN, Stage.CHAIN_TAKEN)}
    ),
    Stage.CHAIN_TAKEN: _server(Stage.CHAIN_TAKEN, {}),
}
MISPLACED_TYPES = frozenset((CLIENT_HELLO, SERVER_HELLO, CERTIFICATE))
"""Messages that are reported, and so are counted where they cannot be."""
