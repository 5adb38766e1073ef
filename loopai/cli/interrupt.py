"""Ctrl-C, SIGTERM and a closed terminal: the first ends the work in order, the second at once."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):  # noqa: N818 (it says what happened)
    """The work was ended by a signal, and has cleaned up after itself."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"ended by {number.name}")
        self.number = number


async def guard(
    work: Coroutine[Any, Any, Answer],  # Any: what a coroutine is sent and yields is asyncio's
    hurry: Callable[[], None],
) -> Answer:
    """The result of *work*. A signal cancels it; one more calls *hurry*, to cut its end short.

    Interrupted when a signal ended it.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    seen: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if seen:
            hurry()
        else:
            task.cancel()
        seen.append(number)

    # What is ignored stays so: that is how nohup works.
    heeded = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    for each in heeded:
        loop.add_signal_handler(each, on_signal, each)
    try:
        return await task
    except asyncio.CancelledError:
        if seen:
            raise Interrupted(seen[0]) from None
        raise
    finally:
        for each in heeded:
            loop.remove_signal_handler(each)
