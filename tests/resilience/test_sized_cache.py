"""A cache bounded in entries and in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwire.resilience.sized_cache import SizedCache


def test_the_one_not_asked_for_longest_makes_room() -> None:
    cache: SizedCache[str, int] = SizedCache(2, 1_000)
    cache.keep("a", 1, 10)
    cache.keep("b", 2, 10)
    assert cache.get("a") == 1
    cache.keep("c", 3, 10)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_bytes_are_bounded() -> None:
    cache: SizedCache[int, str] = SizedCache(1_000, 1_600)
    for number in range(100):
        assert cache.keep(number, str(number), 90)
    assert len(cache) == 17
    assert cache.held == 17 * 90


def test_what_would_push_out_much_is_not_kept() -> None:
    cache: SizedCache[str, int] = SizedCache(10, 1_600)
    assert cache.keep("a", 1, 100)
    assert not cache.keep("b", 2, 101)
    assert cache.get("b") is None
    assert not cache.keep("a", 3, 101)
    assert cache.get("a") is None
    assert (len(cache), cache.held) == (0, 0)


def test_what_is_popped_is_kept_no_longer() -> None:
    cache: SizedCache[str, int] = SizedCache(10, 1_600)
    cache.keep("a", 1, 40)
    cache.keep("b", 2, 50)
    assert (cache.pop("a"), cache.pop("a"), cache.get("a")) == (1, None, None)
    assert (len(cache), cache.held) == (1, 50)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12), st.booleans())))
def test_what_is_held_is_what_is_there(steps: list[tuple[int, int, bool]]) -> None:
    cache: SizedCache[int, int] = SizedCache(4, 100)
    sizes: dict[int, int] = {}
    for key, size, asks in steps:
        if asks:
            assert cache.get(key) in (None, sizes.get(key))
        elif cache.keep(key, size, size):
            sizes[key] = size
        assert len(cache) <= 4
        kept = (cache.get(key) for key in range(9))
        assert cache.held == sum(size for size in kept if size is not None)
        assert cache.held <= 100
