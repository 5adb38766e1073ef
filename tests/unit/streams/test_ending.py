"""A task ends although one of its waits swallows a cancellation."""

import asyncio
import gc

import pytest

from streams import ending


async def test_a_cancellation_that_comes_together_with_an_answer_is_told_again() -> None:
    """`asyncio.wait_for` of Python 3.11 returns the answer and forgets it."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future(), loop.create_future()]

    async def go_round() -> None:
        for answer in answers:
            await asyncio.wait_for(answer, 60)

    task = asyncio.create_task(go_round())
    await asyncio.sleep(0)
    answers[0].set_result(None)
    await ending.end(task)
    assert task.cancelled()


async def test_a_task_has_time_to_clean_up() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(ending.AGAIN_S / 4)
            cleaned = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await ending.end(task)
    assert cleaned


async def test_what_a_task_came_to_is_nobodys_concern(caplog: pytest.LogCaptureFixture) -> None:
    """Neither raised here nor told of when the task is collected."""

    async def fail() -> None:
        raise ValueError("its own")

    failed = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await ending.end(failed)
    del failed
    gc.collect()
    assert not caplog.records


async def test_nothing_to_end() -> None:
    await ending.end()
