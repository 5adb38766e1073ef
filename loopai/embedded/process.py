"""Child processes that do not outlive their parent, whatever ends it."""

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: the signal that the kernel sends to a child when its parent is gone."""


def dies_with_parent() -> Callable[[], None]:
    """A `preexec_fn` after which the child gets SIGKILL when the thread that starts it ends.

    Everything is looked up here, before the fork: between fork and exec as little as possible runs.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have ended before the call above, and then no signal ever comes.
        if os.getppid() != parent:
            os._exit(1)

    return tie


async def exited(process: subprocess.Popen[bytes]) -> int:
    """The exit status of *process*, as soon as it has one; negative for a signal."""
    if process.poll() is None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    return process.wait()


async def stop(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """End *process* with SIGTERM, after *grace_s* with SIGKILL, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                return await exited(process)
        except TimeoutError:
            process.kill()
    return await exited(process)


def end(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """`stop` for callers without an event loop."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def describe(status: int) -> str:
    """An exit status as people say it: `exit code 1`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit code {status}"
    # Most of the real-time signals have no name.
    named = -status in {*signal.Signals}
    return f"killed by {signal.Signals(-status).name if named else f'signal {-status}'}"
