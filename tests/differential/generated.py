"""Random hellos, cut into random records."""

from __future__ import annotations

import random

from tests.differential.hellos import random_client_hello, random_server_hello
from tests.differential.wire import Exchange
from tests.support.flights import message, record


def generated(seed: int, count: int) -> list[Exchange]:
    """Return `count` exchanges; the same seed gives the same exchanges."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        client = _records(dice, message(1, random_client_hello(dice).body), 0x0301)
        messages = message(2, random_server_hello(dice).body)
        if dice.random() < 0.2:
            messages += message(14, b"")  # ServerHelloDone in the ServerHello's record
        server = _records(dice, messages, 0x0303)
        found.append(Exchange(f"generated, seed {seed}, number {number}", client, server))
    return found


def _records(dice: random.Random, content: bytes, version: int) -> bytes:
    size = dice.choice([16_384, 16_384, 16_384, 700, 200, 60])
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(record(part, version=version) for part in parts)
