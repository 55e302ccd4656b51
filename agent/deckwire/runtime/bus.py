"""DECNET's bus in a running agent: traffic and health to it, requests and announcements from it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from deckwire.bus.messages import HEALTH_TOPIC, NAME, Message, envelope
from deckwire.events.event import Event
from deckwire.output.bus_lines import PUBLISHED, bus_line
from deckwire.output.sinks.bus import BusSink

HEALTH_S = 30.0
"""Seconds between two messages about this worker's health. After 90 s DECNET calls it silent."""


class BusService:
    """Publishes to the bus and hands over what arrives. For the capture's thread; never blocks."""

    def __init__(self, path: str) -> None:
        self.sink = BusSink(path)
        self._counts: Counter[str] = Counter()
        self._next_health = 0.0

    def start(self) -> None:
        """Begin to publish."""
        self.sink.start()

    def publish(self, event: Event) -> None:
        """Publish an event that was emitted, if its kind is published at all."""
        if event.name not in PUBLISHED:
            return
        line = bus_line(event)
        if line is None:
            self._counts["bus_unnamed"] += 1
            return
        self.sink.offer(line)

    def publish_health(self, now_s: float, figures: Callable[[], Mapping[str, int]]) -> None:
        """Publish the worker's health if it is due at `now_s` of the monotonic clock.

        `figures` is called only then.

        Nothing is published while earlier messages wait: old health is of no use to anybody.
        """
        if now_s < self._next_health:
            return
        self._next_health = now_s + HEALTH_S
        if self.sink.counters().queued:
            return
        time_s = time.time()
        payload = {"worker": NAME, "ts": time_s, **figures()}
        self.sink.offer(
            HEALTH_TOPIC.encode() + b" " + envelope(HEALTH_TOPIC, "health", time_s, payload)
        )

    def take(self) -> list[Message]:
        """The messages that arrived since the last call."""
        return self.sink.take()

    def close(self, timeout: float) -> None:
        """Publish what is queued within `timeout` seconds, and leave the bus."""
        self.sink.close(timeout)

    def sums(self) -> dict[str, int]:
        """All counters by name. offered = written + queued + the sum of the output's losses."""
        counters = self.sink.counters()
        sums = {
            "output_bus_offered": counters.offered,
            "output_bus_written": counters.written,
            "output_bus_queued": counters.queued,
        }
        for failure, calls in sorted(counters.errors.items()):
            sums[f"output_bus_failed_{failure.removesuffix('_error')}"] = calls
        return sums | self.sink.received | self._counts | self.losses()

    def losses(self) -> dict[str, int]:
        """Messages lost since the start, by cause: those for the bus, and those from it."""
        dropped = sorted(self.sink.counters().dropped.items())
        lost = {f"output_bus_{cause}": lines for cause, lines in dropped}
        return lost | {"bus_received_dropped": self.sink.received["bus_received_dropped"]}
