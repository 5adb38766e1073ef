"""One at a time, by fair turns, and nobody is forgotten."""

import asyncio
from collections import Counter

import pytest

from tests.wait import until
from workers import desk


async def _sit(seats: desk.Desk, tenant: str, log: list[str], turns: int = 1) -> None:
    for _ in range(turns):
        async with seats.seat(tenant, "t", 1):
            log.append(tenant)
            await asyncio.sleep(0)
            assert log[-1] == tenant, "somebody else was there"


async def test_tenants_have_it_by_weight() -> None:
    """Three turns to one, whoever has more at it."""
    seats = desk.Desk({"heavy": 3})
    log: list[str] = []
    async with asyncio.TaskGroup() as group:
        for tenant, tasks in (("light", 8), ("heavy", 4)):
            for _ in range(tasks):
                group.create_task(_sit(seats, tenant, log, turns=100))

    first = Counter(log[10:210])
    assert first["heavy"] == pytest.approx(150, abs=4)


async def test_one_that_goes_while_it_waits_is_passed_over() -> None:
    """The seat goes to the next, and is free in the end."""
    seats = desk.Desk({})
    log: list[str] = []
    async with seats.seat("first", "t", 1):
        going = asyncio.create_task(_sit(seats, "going", log))
        staying = asyncio.create_task(_sit(seats, "staying", log))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    await staying
    await _sit(seats, "later", log)
    assert log == ["staying", "later"]


async def test_one_that_goes_in_the_moment_in_which_it_is_called_hands_it_on() -> None:
    """It has the seat and is cancelled before it knows."""
    seats = desk.Desk({})
    log: list[str] = []
    async with seats.seat("first", "t", 1):
        going = asyncio.create_task(_sit(seats, "going", log))
        staying = asyncio.create_task(_sit(seats, "staying", log))
        await asyncio.sleep(0)
    going.cancel()
    await until(staying.done)
    assert log == ["staying"]


async def test_a_failure_inside_frees_it() -> None:
    """The next one sits down."""
    seats = desk.Desk({})
    log: list[str] = []
    with pytest.raises(RuntimeError):
        async with seats.seat("first", "t", 1):
            raise RuntimeError
    await _sit(seats, "second", log)
    assert log == ["second"]
