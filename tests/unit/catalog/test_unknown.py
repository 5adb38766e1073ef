"""Names that are not there, remembered for a moment."""

from loopai.catalog.unknown import KEPT_S, NAMES_MAX, Unknown


def test_a_name_is_remembered_for_a_second() -> None:
    """Of its tenant only."""
    made = Unknown()
    made.add("one", "task", 10)
    assert made.holds("one", "task", 10 + KEPT_S - 0.01)
    assert not made.holds("one", "task", 10 + KEPT_S)
    assert not made.holds("two", "task", 10)
    assert not made.holds("one", "other", 10)


def test_the_oldest_names_go() -> None:
    """However many are made up; one that was asked for again is not old."""
    made = Unknown()
    for number in range(NAMES_MAX):
        made.add("one", str(number), 0)
    made.add("one", "0", 0.5)
    for number in range(NAMES_MAX, NAMES_MAX + 10):
        made.add("one", str(number), 0.5)
    assert len(made) == NAMES_MAX
    assert made.holds("one", "0", 0.9)
    assert not made.holds("one", "10", 0.9)
    assert made.holds("one", "11", 0.9)
    assert made.holds("one", str(NAMES_MAX + 9), 0.9)
