"""SSH that the kernel suppresses: no event differs, and an equal head costs no sample."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.config import Settings
from deckwire.connections import suppressed_head
from deckwire.events.event import Event
from deckwire.events.names import SSH_EVENTS
from tests.pipeline.test_pipeline import kernel
from tests.support.conversation import (
    CLIENT,
    CLIENT6,
    DECKY,
    DECKY6,
    DECKY_B,
    SECOND,
    START_NS,
    STRANGER,
    Conversation,
    in_time,
)
from tests.support.emitted import of
from tests.support.replaying import ReplayLab
from tests.support.ssh_wire import (
    CLIENT_BANNER,
    CLIENT_LISTS,
    ECDH_INIT,
    ECDH_REPLY,
    SERVER_BANNER,
    SERVER_LISTS,
    kexinit,
    packet,
)

pytestmark = pytest.mark.root

DEDUP = Settings(dedup_ttl=300.0)
OTHER_LISTS = (b"ecdh-sha2-nistp256", *CLIENT_LISTS[1:])
TIMES = "first_seen", "last_seen", "event_id"
PARTS = "banner", "half", "kexinit", "whole"


def head(
    banner: bytes, lists: tuple[bytes, ...], number: int, cookie: int, part: str
) -> list[bytes]:
    """What an end says, as far as `part`; its cookie is random."""
    offer = packet(kexinit(lists, bytes([cookie]) * 16))
    pieces = [banner + b"\r\n"]
    if part == "half":
        pieces.append(offer[:200])
    elif part != "banner":
        pieces.append(offer)
    if part == "whole":
        pieces.append(packet(bytes([number]) + bytes([cookie]) * 36))
    return pieces


def talk(
    number: int,
    *,
    client: str = CLIENT,
    server: str = DECKY,
    start_ns: int | None = None,
    banner: bytes = CLIENT_BANNER,
    lists: tuple[bytes, ...] = CLIENT_LISTS,
    part: str = "whole",
    size: int = 1_400,
    is_reversed: bool = False,
) -> Conversation:
    """Connection `number` of a client; both ends say as much."""
    conversation = Conversation(
        *(client, server, 40_000 + number, 22),
        start_ns=START_NS + 2 * number * SECOND if start_ns is None else start_ns,
    ).open()
    mine = head(banner, lists, ECDH_INIT, number, part)
    theirs = head(SERVER_BANNER, SERVER_LISTS, ECDH_REPLY, number + 1, part)
    if is_reversed:
        mine, theirs = theirs, mine
    for ours, others in zip(mine, theirs, strict=True):
        conversation.answer(others, size).send(ours, size)
    return conversation.close()


@pytest.mark.parametrize(("client", "server"), [(CLIENT, DECKY), (CLIENT6, DECKY6)])
def test_the_tenth_head_of_a_client_costs_no_sample(
    lab: ReplayLab, client: str, server: str
) -> None:
    talks = [talk(number, client=client, server=server) for number in range(10)]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY, DECKY6], DEDUP)
    assert lab.last is not None
    counters = lab.last.tables.counters()
    assert counters["heads_suppressed"] == 18
    assert lab.last.stats.sums()["heads_opened"] == 1
    assert counters["ends_suppressed"] == 9
    counts = {summary["event"]: summary["count"] for summary in of(events, "dedup_summary")}
    assert counts["ssh_client_banner"] == counts["ssh_server_banner"] == 9


def without_times(events: list[Event]) -> list[str]:
    """All events; those of SSH and of summaries without their times.

    What the kernel suppressed in part is only read when its connection ends.
    """
    shown = []
    for event in events:
        time_ns = 0 if event.name in SSH_EVENTS else event.time_ns
        fields = [field for field in event.fields if field[0] not in TIMES]
        shown.append(repr((event.name, time_ns, event.host, event.source, fields)))
    return sorted(shown)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([CLIENT_BANNER, b"SSH-2.0-Go"]),
            st.sampled_from([CLIENT_LISTS, OTHER_LISTS]),
            st.sampled_from([*PARTS, "whole", "whole"]),
            st.sampled_from([CLIENT, CLIENT, STRANGER]),
            st.sampled_from([DECKY, DECKY_B]),
            st.sampled_from([1_400, 1_400, 150]),
            st.booleans(),
            st.sampled_from([1, 2, 40, 285, 330]),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_suppressed_heads_change_no_event(
    lab: ReplayLab,
    sent: list[tuple[bytes, tuple[bytes, ...], str, str, str, int, bool, int]],
) -> None:
    """Any heads of both ends, whole or not, within windows and after their ends."""
    talks, start_ns = [], START_NS
    for number, (banner, lists, part, client, server, size, turned, later_s) in enumerate(sent):
        talks.append(
            talk(
                number,
                client=client,
                server=server,
                start_ns=start_ns,
                banner=banner,
                lists=lists,
                part=part,
                size=size,
                is_reversed=turned,
            )
        )
        start_ns += later_s * SECOND
    frames = in_time(*talks)
    plain = lab.frames(frames, [DECKY, DECKY_B], DEDUP)
    with kernel(lab, DEDUP):
        events = lab.frames(frames, [DECKY, DECKY_B], DEDUP)
    assert without_times(events) == without_times(plain)


def test_two_heads_with_one_banner_are_both_suppressed_in_the_end(lab: ReplayLab) -> None:
    """Of the second one the kernel suppresses the banner at first, which the agent recalls."""
    each = [CLIENT_LISTS, OTHER_LISTS]
    talks = [talk(number, lists=each[number % 2]) for number in range(20)]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY], DEDUP)
    assert lab.last is not None
    assert lab.last.tables.counters()["heads_suppressed"] == 19 + 18
    assert len(of(events, "ssh_client_banner")) == 2
    counts = [
        summary["count"]
        for summary in of(events, "dedup_summary")
        if summary["event"] == "ssh_client_banner"
    ]
    assert sorted(counts) == [9, 9]


def test_a_head_that_was_evicted_is_no_longer_suppressed(
    lab: ReplayLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressed_head, "EMITTED_HEADS", 4)
    other = [talk(1, server=DECKY_B)]
    talks = [talk(0), *other, *(talk(n, part="banner") for n in (2, 3))]
    with kernel(lab, DEDUP):
        events = lab.frames(in_time(*talks), [DECKY, DECKY_B], DEDUP)
    assert lab.last is not None
    # Of the first banner alone, neither end's bytes are known any more.
    assert lab.last.pipeline.counts["ssh_heads_evicted"] == 2
    alone = [event for event in of(events, "ssh_client_banner") if "hassh" not in event]
    assert [event["src_port"] for event in alone] == [40_003]
