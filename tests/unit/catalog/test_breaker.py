"""When a peer that failed is asked again."""

from loopai.catalog.cache.breaker import FAILURES_MAX, OPEN_S, Breaker


def opened() -> Breaker:
    """One that opened at 0."""
    made = Breaker()
    for _ in range(FAILURES_MAX):
        made.failed(0)
    return made


def test_failures_in_a_row_open_it() -> None:
    """One less does not, however often; a success between them begins the count again."""
    made = Breaker()
    for _ in range(3):
        assert not any(made.failed(0) for _ in range(FAILURES_MAX - 1))
        assert made.admits(0)
        assert not made.succeeded()
    assert [made.failed(0) for _ in range(FAILURES_MAX)] == [False] * (FAILURES_MAX - 1) + [True]
    assert made.is_open
    assert not made.admits(0)


def test_after_a_pause_there_is_one_trial() -> None:
    """The others wait for what becomes of it; where it is never heard of, for another pause."""
    made = opened()
    assert not made.admits(OPEN_S - 0.01)
    assert [made.admits(OPEN_S) for _ in range(3)] == [True, False, False]
    assert not made.admits(2 * OPEN_S - 0.01)
    assert made.admits(2 * OPEN_S)


def test_a_trial_that_fails_leaves_it_open() -> None:
    """For a whole pause from then on, and that is no news."""
    made = opened()
    assert made.admits(OPEN_S)
    assert not made.failed(OPEN_S + 1)
    assert not made.admits(2 * OPEN_S)
    assert made.admits(2 * OPEN_S + 1)


def test_a_trial_that_succeeds_closes_it() -> None:
    """It tells so, once; and all failures are forgotten."""
    made = opened()
    assert made.succeeded()
    assert not made.succeeded()
    assert not made.is_open
    assert not made.failed(OPEN_S)
    assert made.admits(OPEN_S)
