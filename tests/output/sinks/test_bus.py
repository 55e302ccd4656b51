"""The sink of DECNET's bus against a stand-in of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deckwire.bus.messages import CONTROL_TOPIC, ORCHESTRATOR_PATTERN, Announcement, StopRequest
from deckwire.limits import BUS_INBOX
from deckwire.output.sinks.bus import BusSink
from tests.support.bus_server import BusServer

ACT = {"src_decky": "web", "dst_ip": "10.0.0.2", "dst_port": 22}


@pytest.fixture
def path() -> Iterator[Path]:
    # Short, because the path of a socket is.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "bus.sock"


@pytest.fixture
def sink(path: Path) -> Iterator[BusSink]:
    made = BusSink(str(path), capacity=8)
    yield made
    made.close(5)


def line(number: int, topic: str = "decky.web.traffic") -> bytes:
    body = {"v": 1, "id": "0" * 32, "topic": topic, "type": "t", "ts": 1.0, "payload": number}
    return f"{topic} {json.dumps(body)}".encode()


def numbers(bus: BusServer) -> list[object]:
    return [message["payload"] for message in bus.of("decky.web.traffic")]


def ready(bus: BusServer) -> None:
    bus.wait(
        lambda: bus.subscribed(CONTROL_TOPIC) and bus.subscribed(ORCHESTRATOR_PATTERN),
        "the sink has subscribed",
    )


def test_it_says_who_it_is_and_publishes(sink: BusSink, path: Path) -> None:
    with BusServer(path) as bus:
        sink.start()
        ready(bus)
        assert bus.hellos == ["sniffer"]
        for number in range(5):
            sink.offer(line(number))
        bus.wait(lambda: numbers(bus) == list(range(5)), "all are published")
        sink.close(5)
        bus.wait(lambda: bus.goodbyes == 1, "it says goodbye")
    counters = sink.counters()
    assert (counters.offered, counters.written, counters.dropped) == (5, 5, {})


def test_it_connects_again_without_a_message_of_its_own(sink: BusSink, path: Path) -> None:
    sink.start()
    for round_ in (1, 2):
        with BusServer(path) as bus:
            ready(bus)
            bus.send(CONTROL_TOPIC, {"action": "stop"})
            bus.wait(lambda: sink.received["bus_received_taken"] == round_, "the request arrives")  # noqa: B023
    assert sink.take() == [StopRequest(), StopRequest()]
    assert sink.take() == []


def test_messages_wait_for_a_bus_that_is_away(sink: BusSink, path: Path) -> None:
    sink.start()
    for number in range(12):
        sink.offer(line(number))
    with BusServer(path) as bus:
        bus.wait(lambda: len(numbers(bus)) >= 8, "those with room arrive")
        assert numbers(bus) == list(range(8))
    dropped = sink.counters().dropped
    assert sum(dropped.values()) == 4
    assert set(dropped) <= {"connect_error", "queue_full"}


def test_only_messages_for_this_worker_are_kept(sink: BusSink, path: Path) -> None:
    with BusServer(path) as bus:
        sink.start()
        ready(bus)
        bus.send("orchestrator.traffic.ssh", ACT)
        bus.send("orchestrator.traffic.ssh", {"src_decky": "web"})
        bus.send(CONTROL_TOPIC, {"action": "dance"})
        bus.send(CONTROL_TOPIC, {"action": "stop"})
        bus.wait(lambda: sink.received["bus_received_taken"] == 2, "both arrive")
    assert sink.take() == [Announcement("web", "10.0.0.2", 22), StopRequest()]
    assert sink.received == {
        "bus_received_taken": 2,
        "bus_received_ignored": 2,
        "bus_received_dropped": 0,
        "bus_received_malformed": 0,
    }


def test_the_inbox_is_bounded(sink: BusSink, path: Path) -> None:
    with BusServer(path) as bus:
        sink.start()
        ready(bus)
        for _ in range(BUS_INBOX + 3):
            bus.send("orchestrator.traffic.ssh", ACT)
        bus.wait(
            lambda: sink.received["bus_received_dropped"] == 3, "the rest is dropped and counted"
        )
    assert len(sink.take()) == BUS_INBOX


def test_a_bus_that_sends_garbage_is_left_and_tried_again(sink: BusSink, path: Path) -> None:
    with BusServer(path) as bus:
        sink.start()
        ready(bus)
        bus.send_raw(bus.connections[0], b"x" * 5_000)
        bus.wait(lambda: len(bus.hellos) == 2, "it connects again")
        ready(bus)
        bus.send(CONTROL_TOPIC, {"action": "stop"})
        bus.wait(lambda: sink.received["bus_received_taken"] == 1, "and understands again")
    assert sink.received["bus_received_malformed"] == 1
