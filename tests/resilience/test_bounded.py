"""The bounded table evicts one entry at a time, the oldest, and counts it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deckwire.resilience.bounded import Bounded

LIMIT = 4


def test_the_entry_put_first_is_evicted_and_returned() -> None:
    table: Bounded[str, int] = Bounded(2)
    assert [table.put(name, number) for number, name in enumerate("abcd")] == [
        *(None, None),
        *(("a", 0), ("b", 1)),
    ]
    assert list(table) == ["c", "d"]
    assert table.evicted == 2


def test_a_value_put_again_is_the_newest_and_evicts_nothing() -> None:
    table: Bounded[str, int] = Bounded(2)
    for name, number in (("a", 1), ("b", 2), ("a", 3)):
        assert table.put(name, number) is None
    assert table.put("c", 4) == ("b", 2)
    assert list(table.values()) == [3, 4]


def test_a_look_up_keeps_the_age_and_a_refresh_makes_it_the_newest() -> None:
    table: Bounded[str, int] = Bounded(2)
    table.put("a", 1)
    table.put("b", 2)
    assert table.get("a") == table["a"] == 1
    assert table.oldest() == 1
    table.refresh("a")
    assert table.oldest() == 2
    assert table.put("c", 3) == ("b", 2)
    with pytest.raises(KeyError):
        table.refresh("b")
    with pytest.raises(KeyError):
        table["b"]


def test_what_is_removed_or_cleared_is_not_evicted() -> None:
    table: Bounded[str, int] = Bounded(2)
    table.put("a", 1)
    table.put("b", 2)
    assert (table.pop("a", None), table.pop("a", None)) == (1, None)
    assert table.put("c", 3) is None
    table.clear()
    assert (len(table), table.oldest(), table.evicted) == (0, None, 0)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_table_without_room_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="entries"):
        Bounded(limit)


class Model(RuleBasedStateMachine):
    """Any use of a table, against a list of pairs from the oldest to the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Bounded[int, int] = Bounded(LIMIT)
        self.pairs: list[tuple[int, int]] = []
        self.evicted = 0

    def _without(self, key: int) -> list[tuple[int, int]]:
        return [pair for pair in self.pairs if pair[0] != key]

    @rule(key=st.integers(0, 7), value=st.integers(0, 99))
    def put(self, key: int, value: int) -> None:
        evicted = self.table.put(key, value)
        self.pairs = [*self._without(key), (key, value)]
        expected = self.pairs.pop(0) if len(self.pairs) > LIMIT else None
        assert evicted == expected
        self.evicted += expected is not None

    @rule(key=st.integers(0, 7))
    def use(self, key: int) -> None:
        value = self.table.get(key)
        assert value == dict(self.pairs).get(key)
        if value is not None:
            self.table.refresh(key)
            self.pairs = [*self._without(key), (key, value)]

    @rule(key=st.integers(0, 7))
    def pop(self, key: int) -> None:
        assert self.table.pop(key, None) == dict(self.pairs).get(key)
        self.pairs = self._without(key)

    @invariant()
    def both_are_equal(self) -> None:
        assert list(zip(self.table, self.table.values(), strict=True)) == self.pairs
        assert len(self.table) == len(self.pairs) <= LIMIT
        assert self.table.evicted == self.evicted
        assert all((key in self.table) == (key in dict(self.pairs)) for key in range(8))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)
