"""Which of the ClientHellos of a connection was answered, and which led to nothing."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from deckwire.connections.direction import Direction
from deckwire.connections.observations import HelloSeen
from deckwire.connections.offers import Offer, Offers, contested, is_plain
from deckwire.limits import OFFERED_HELLOS
from deckwire.tcp.anomaly import Technique
from deckwire.tls.messages import parse_client_hello
from tests.support.flights import client_hello

CLIENT, SERVER = 1, 0
FIRST_SEQ = 5
"""Of the client's first byte."""
HELLO = parse_client_hello(client_hello())
CUT = parse_client_hello(client_hello()[:60], cut=True)


def offer(number: int, run: int, *, pipelined: bool = False, cut: bool = False) -> Offer:
    """The hello that was completed at this time, in the run of records that began at `run`."""
    seen = HelloSeen(number, CUT if cut else HELLO, "complete", run, 0)
    return Offer(seen, b"", pipelined)


def offers(*hellos: tuple[int, Offer]) -> Offers:
    made = Offers()
    for end, hello in hellos:
        assert made.add(end, hello) is None
    return made


def line(end: int, text: bytes) -> SegmentSample:
    return SegmentSample(
        time_ns=9,
        born_ns=1,
        key=bytes(36),
        sender=end,
        client=CLIENT,
        midstream=False,
        seq=1,
        start_seq=None,
        payload=text,
        claimed=len(text),
    )


def answered(made: Offers, *, at_once: bool = False) -> tuple[Offer | None, bool]:
    return made.answered(CLIENT, FIRST_SEQ, at_once=at_once)


def test_without_any_none_was_answered() -> None:
    made = Offers()
    assert answered(made) == (None, False)
    assert made.due(CLIENT) == (CLIENT, None)
    assert made.others(CLIENT, None) == []


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("refused", [False, True])
def test_the_only_one_was_answered(pipelined: bool, refused: bool) -> None:
    hello = offer(1, 50, pipelined=pipelined)
    made = offers((CLIENT, hello))
    if refused:
        made.note_plain(SERVER)
    assert answered(made) == (hello, False)
    assert made.answered(SERVER, FIRST_SEQ, at_once=True) == (None, False)
    assert not made.several


@pytest.mark.parametrize("pipelined", [False, True])
def test_of_one_run_the_first_was_answered_and_the_rest_came_after_it(pipelined: bool) -> None:
    """Behind other bytes it is in doubt: these may have had a length that reaches into the run."""
    first, second = offer(1, 50, pipelined=pipelined), offer(2, 50, pipelined=pipelined)
    made = offers((CLIENT, first), (CLIENT, second))
    assert made.several
    assert answered(made) == (first, pipelined)
    assert made.others(CLIENT, first) == [(CLIENT, second)]


@pytest.mark.parametrize(
    ("run", "pipelined", "at_once", "expected", "doubted"),
    [
        (FIRST_SEQ, False, True, 0, False),
        (FIRST_SEQ, False, False, 0, True),
        (50, False, True, 1, True),
        (50, True, False, 1, True),
    ],
    ids=["no other bytes", "the server spoke first", "bytes before", "bytes of its segment"],
)
def test_of_two_runs_without_a_line_between(
    run: int, pipelined: bool, at_once: bool, expected: int, doubted: bool
) -> None:
    hellos = offer(1, run, pipelined=pipelined), offer(2, 500), offer(3, 500)
    made = offers(*((CLIENT, hello) for hello in hellos))
    assert answered(made, at_once=at_once) == (hellos[expected], doubted)
    others = [(CLIENT, hello) for hello in hellos if hello is not hellos[expected]]
    assert made.others(CLIENT, hellos[expected]) == others


@pytest.mark.parametrize("run", [FIRST_SEQ, 50])
def test_of_two_runs_the_one_after_the_line_was_answered(run: int) -> None:
    old, first, second = offer(1, run), offer(2, 500), offer(3, 500)
    made = offers((CLIENT, old))
    made.note_plain(SERVER)
    assert made.add(CLIENT, first) is None
    assert made.add(CLIENT, second) is None
    assert answered(made) == (first, False)
    assert made.others(CLIENT, first) == [(CLIENT, old), (CLIENT, second)]


@pytest.mark.parametrize(
    ("run", "doubted"), [(FIRST_SEQ, False), (50, True)], ids=["nothing before", "bytes before"]
)
@pytest.mark.parametrize(
    ("pipelined", "expected"), [(True, 1), (False, 2)], ids=["explained", "not explained"]
)
def test_of_two_runs_before_the_line_the_last_was_answered(
    run: int, doubted: bool, pipelined: bool, expected: int
) -> None:
    """Bytes before it in its segment explain the line. So may those before the first run."""
    hellos = (
        *(offer(1, run), offer(2, 500, pipelined=pipelined)),
        offer(3, 500, pipelined=pipelined),
    )
    made = offers(*((CLIENT, hello) for hello in hellos))
    made.note_plain(CLIENT)
    made.note_plain(SERVER)
    assert answered(made) == (hellos[expected], doubted)


@pytest.mark.parametrize(
    ("payload", "begun", "plain"),
    [
        (b"500 what?\r\n", False, True),
        (b"S", False, True),
        (b"500 what?\r\n", True, False),
        (b"\x16\x03\x01", False, False),
        (b"\x15", False, False),
        (b"", False, False),
    ],
)
def test_other_bytes_than_tls(payload: bytes, begun: bool, plain: bool) -> None:
    side = Direction()
    if begun:
        side.begin(1)
    assert is_plain(side, line(SERVER, payload)) is plain


def test_those_of_the_other_end_led_to_nothing() -> None:
    ours, theirs = offer(1, 5), offer(2, 7)
    made = offers((SERVER, theirs), (CLIENT, ours))
    assert made.several
    assert made.others(CLIENT, ours) == [(SERVER, theirs)]
    assert made.others(SERVER, theirs) == [(CLIENT, ours)]
    # A ServerHello may answer a hello that was not seen.
    assert offers((SERVER, theirs)).others(CLIENT, None) == [(SERVER, theirs)]
    anomaly = theirs.unanswered(SERVER)
    assert anomaly.anomaly.technique is Technique.UNANSWERED_HELLO
    assert (anomaly.time_ns, anomaly.sender, anomaly.hello) == (2, SERVER, HELLO)


def test_without_an_answer_a_whole_hello_of_the_client_was_due() -> None:
    whole, cut = offer(1, 5), offer(2, 50, cut=True)
    assert offers((CLIENT, whole), (CLIENT, cut)).due(CLIENT) == (CLIENT, whole)
    assert offers((CLIENT, cut), (SERVER, whole)).due(CLIENT) == (CLIENT, cut)
    assert offers((SERVER, whole)).due(CLIENT) == (SERVER, whole)


def test_the_oldest_makes_room_for_a_new_run() -> None:
    made = offers(*((CLIENT, offer(n, 10 * n)) for n in range(OFFERED_HELLOS)))
    late = offer(8, 10 * (OFFERED_HELLOS - 1))
    assert made.add(CLIENT, late) is late
    new = offer(9, 999)
    oldest, next_oldest = made.of(CLIENT)[:2]
    made.note_plain(SERVER)
    assert made.add(CLIENT, new) is oldest
    assert len(made.of(CLIENT)) == OFFERED_HELLOS
    assert made.of(CLIENT)[-1] is new
    # The peer has refused those that are left of the ones before.
    assert next_oldest in made.of(CLIENT)
    assert answered(made) == (new, False)


def test_a_contested_copy_is_an_anomaly_of_its_sender() -> None:
    seen = contested(7, CLIENT, HELLO)
    assert seen.anomaly.technique is Technique.CONTESTED_HELLO
    assert (seen.time_ns, seen.sender, seen.hello) == (7, CLIENT, HELLO)
