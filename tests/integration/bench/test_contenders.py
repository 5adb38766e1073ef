"""What the bench measures beside Loopai starts, answers and ends."""

from bench import contenders, processes


async def test_the_echo_answers_and_its_time_is_counted() -> None:
    """It is checked before it is measured, in a process of its own that is gone afterwards."""
    async with contenders.running("echo") as echo:
        (pid,) = echo.pids
        assert pid in processes.children()
        assert echo.cpu_s() > 0
    assert pid not in processes.children()
