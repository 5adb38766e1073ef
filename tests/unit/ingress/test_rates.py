"""Who is counted for what, by the clock of the test."""

import pytest

from loopai import errors
from loopai.ingress import identity, rates
from loopai.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_020.0
        """A moment at which a minute begins."""

    def __call__(self) -> float:
        return self.now


def limiter(clock=None, **fields):
    return rates.Limiter(Settings(**fields), clock=clock or Clock())


def scope(tenant="default", **fields):
    who = identity.Identity(tenant=tenant, name="api", **fields)
    return {"type": "http", identity.SCOPE_KEY: who}


def refused(one, where, kind="requests", cost=1):
    with pytest.raises(errors.ApiError) as caught:
        one.spend_now(where, kind, cost)
    assert caught.value.code == "RATE_LIMITED"
    return caught.value


def test_nobody_is_limited_unless_something_says_so():
    """Nothing is counted and no header is told."""
    one, where = limiter(), scope()
    assert not one.limits(identity.of_scope(where))
    one.spend_now(where, "requests")
    assert rates.headers(where) == []


def test_a_key_has_its_own_rate_before_the_default():
    """Its rate and its quota, each where it is given."""
    one = limiter(rate_limit="1/minute", execution_quota="1/day")
    rich = {"key_id": "k", "rate": "3/minute", "quota": "2/day"}
    for _ in range(3):
        one.spend_now(scope(**rich), "requests")
    for _ in range(2):
        one.spend_now(scope(**rich), "executions")
    assert "3 requests a minute" in refused(one, scope(**rich)).detail
    assert "2 executions a day" in refused(one, scope(**rich), "executions").detail
    one.spend_now(scope(key_id="poor"), "requests")
    refused(one, scope(key_id="poor"))


def test_keys_and_tenants_do_not_take_from_each_other():
    """One count for each key of each tenant; those without a key of a tenant share one."""
    one = limiter(rate_limit="1/minute")
    for where in (
        {},
        {"key_id": "a"},
        {"key_id": "b"},
        {"tenant": "t"},
        {"tenant": "t", "key_id": "a"},
    ):
        one.spend_now(scope(**where), "requests")
    refused(one, scope(key_id="a"))
    refused(one, scope())


def test_a_request_is_counted_once_whichever_way_it_takes():
    """What the hot path has counted the general way does not count again."""
    one, where = limiter(rate_limit="1/minute"), scope()
    one.spend_now(where, "requests")
    one.spend_now(where, "requests")
    refused(one, scope())


def test_headers_tell_of_the_limit_that_is_nearer():
    """Of rate and quota the one of which less is left; on a refusal the one that refused."""
    one, where = limiter(rate_limit="10/minute", execution_quota="3/day"), scope()
    one.spend_now(where, "requests")
    assert rates.headers(where)[:2] == [(b"ratelimit-limit", b"10"), (b"ratelimit-remaining", b"9")]
    one.spend_now(where, "executions", 2)
    assert rates.headers(where)[:2] == [(b"ratelimit-limit", b"3"), (b"ratelimit-remaining", b"1")]
    other = scope()
    error = refused(one, other, "executions", 2)
    assert dict(rates.headers(other))[b"ratelimit-remaining"] == b"1"
    assert dict(rates.headers(other))[b"ratelimit-reset"] == b"%d" % error.retry_after_s


def test_who_waits_for_retry_after_is_let_in():
    """Not a second before."""
    clock = Clock()
    one = limiter(clock, rate_limit="2/minute")
    for _ in range(2):
        one.spend_now(scope(), "requests")
    clock.now += 59
    after_s = refused(one, scope()).retry_after_s
    clock.now += after_s - 2
    refused(one, scope())
    clock.now += 2
    one.spend_now(scope(), "requests")


async def test_as_much_as_is_left_is_given_piece_by_piece():
    """3 of 5, then the 2 that are left of 4, then none."""
    one, where = limiter(execution_quota="5/day"), scope()
    assert [await one.spend_most(where, wanted) for wanted in (3, 4, 1)] == [3, 2, 0]


def test_memory_of_callers_is_bounded():
    """What is over goes first, then the oldest; never more than the limit."""
    clock = Clock()
    one = limiter(clock, rate_limit="1/minute")
    for number in range(rates.WINDOWS_MAX + 1):
        one.spend_now(scope(key_id=str(number)), "requests")
    assert len(one._windows) <= rates.WINDOWS_MAX
    refused(one, scope(key_id=str(rates.WINDOWS_MAX)))
    one.spend_now(scope(key_id="0"), "requests")  # it was forgotten
    clock.now += 120
    for number in range(rates.WINDOWS_MAX):
        one.spend_now(scope(key_id=f"later {number}"), "requests")
    refused(one, scope(key_id="later 0"))
