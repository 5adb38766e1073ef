"""Texts in memory: as many as fit, whatever their number."""

import sys

import msgspec

from loopai.catalog.cache.memory import OVERHEAD_BYTES, Memory


def test_a_thousand_small_texts_stay() -> None:
    """As many as one executor has tasks, within the default bound."""
    kept = Memory(64 * 1024 * 1024)
    for number in range(1_000):
        kept.put(str(number), "#" * 60_000)
    assert all(kept.get(str(number)) for number in range(1_000))


def test_the_text_used_least_recently_goes() -> None:
    """Room for two; a third takes that of the one that nobody used since."""
    size = sys.getsizeof("#" * 100) + OVERHEAD_BYTES
    kept = Memory(2 * size)
    for name in ("a", "b"):
        kept.put(name, "#" * 100)
    kept.get("a")
    kept.put("c", "#" * 100)
    assert [kept.get(name) is not None for name in ("a", "b", "c")] == [True, False, True]
    assert kept.bytes == 2 * size


def test_empty_texts_are_bounded_too() -> None:
    """Each costs something beside its text."""
    kept = Memory(10 * OVERHEAD_BYTES)
    for number in range(100):
        kept.put(str(number), "")
    assert sum(kept.get(str(number)) is not None for number in range(100)) < 10


def test_what_is_counted_goes_with_what_was_kept() -> None:
    """A text takes more once it was encoded: the count must not drift for that."""
    text = "".join(["ä€", "😀" * 10_000])
    kept = Memory(2 * sys.getsizeof(text) + 2 * OVERHEAD_BYTES)
    kept.put("a", text)
    before = sys.getsizeof(text)
    msgspec.json.encode(text)
    assert sys.getsizeof(text) > before
    for name in ("b", "c", "d"):
        kept.put(name, "😀" * 10_000)
    assert kept.get("a") is None
    last = sys.getsizeof("😀" * 10_000) + OVERHEAD_BYTES
    assert kept.bytes == 2 * last


def test_a_text_that_is_kept_counts_once() -> None:
    """Two processes' worth of writers may put the same."""
    kept = Memory(10_000)
    kept.put("a", "text")
    before = kept.bytes
    kept.put("a", "text")
    assert kept.bytes == before
