"""Which of the ClientHellos of a connection was answered, and which led to nothing."""

from __future__ import annotations

import pytest

from deckwire.abi.samples import SegmentSample
from deckwire.connections.direction import Direction
from deckwire.connections.observations import HelloSeen
from deckwire.connections.offers import Offer, Offers, contested
from deckwire.limits import OFFERED_HELLOS
from deckwire.tcp.anomaly import Technique
from deckwire.tls.messages import parse_client_hello
from tests.support.flights import client_hello

CLIENT, SERVER = 1, 0
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


def test_without_any_none_was_answered() -> None:
    made = Offers()
    assert made.answered(CLIENT) is None
    assert made.due(CLIENT) == (CLIENT, None)
    assert made.others(CLIENT, None) == ([], [])


def test_the_only_one_was_answered() -> None:
    hello = offer(1, 5)
    made = offers((CLIENT, hello))
    assert made.answered(CLIENT) is hello
    assert made.answered(SERVER) is None
    assert not made.several


def test_of_one_run_the_first_was_answered_and_the_rest_came_after_it() -> None:
    first, second = offer(1, 5), offer(2, 5)
    made = offers((CLIENT, first), (CLIENT, second))
    assert made.several
    assert made.answered(CLIENT) is first
    assert made.others(CLIENT, first) == ([], [second])


def test_of_two_runs_the_last_one_counts() -> None:
    old, first, second = offer(1, 5), offer(2, 50), offer(3, 50)
    made = offers((CLIENT, old), (CLIENT, first), (CLIENT, second))
    assert made.answered(CLIENT) is first
    assert made.others(CLIENT, first) == ([(CLIENT, old)], [second])


@pytest.mark.parametrize(
    ("end", "text", "pipelined", "last"),
    [
        (SERVER, b"500 what?\r\n", False, True),
        (SERVER, b"500 what?\r\n", True, False),
        (SERVER, b"\x16\x03\x01", False, False),
        (SERVER, b"", False, False),
        (CLIENT, b"EHLO x\r\n", False, False),
    ],
    ids=["a line", "a line that the bytes before explain", "TLS", "nothing", "its own line"],
)
def test_after_a_line_of_the_peer_the_last_of_a_run_was_answered(
    end: int, text: bytes, pipelined: bool, last: bool
) -> None:
    first, second = offer(1, 5), offer(2, 5, pipelined=pipelined)
    made = offers((CLIENT, first), (CLIENT, second))
    made.note_plain(Direction(), line(end, text))
    assert made.answered(CLIENT) is (second if last else first)
    # A hello that begins a run begins anew.
    third, fourth = offer(3, 50), offer(4, 50)
    assert made.add(CLIENT, third) is None
    if len(made.of(CLIENT)) < OFFERED_HELLOS:
        assert made.add(CLIENT, fourth) is None
    assert made.answered(CLIENT) is third


def test_those_of_the_other_end_led_to_nothing() -> None:
    ours, theirs = offer(1, 5), offer(2, 7)
    made = offers((SERVER, theirs), (CLIENT, ours))
    assert made.several
    assert made.others(CLIENT, ours) == ([(SERVER, theirs)], [])
    assert made.others(SERVER, theirs) == ([(CLIENT, ours)], [])
    # A ServerHello may answer a hello that was not seen.
    assert offers((SERVER, theirs)).others(CLIENT, None) == ([(SERVER, theirs)], [])
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
    oldest = made.of(CLIENT)[0]
    assert made.add(CLIENT, new) is oldest
    assert len(made.of(CLIENT)) == OFFERED_HELLOS
    assert made.of(CLIENT)[-1] is new


def test_a_contested_copy_is_an_anomaly_of_its_sender() -> None:
    seen = contested(7, CLIENT, HELLO)
    assert seen.anomaly.technique is Technique.CONTESTED_HELLO
    assert (seen.time_ns, seen.sender, seen.hello) == (7, CLIENT, HELLO)
