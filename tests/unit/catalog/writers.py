"""Processes that write a store: many at once, or one that dies at a step of its own choice."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from loopai.catalog.stores import filesystem, store
from streams.messages import ProgramArtifact

SAME = "same"
EARLIER, LATER = "of a task that had the name before", "of the one that has it now"
STEPS_MAX = 500


def own(number: int) -> str:
    return f"text {number}"


def artifact(version: int, code: str, task_id: str = "t") -> ProgramArtifact:
    return ProgramArtifact(
        id="a",
        task_id=task_id,
        version=version,
        language="python",
        digest=store.digest(code),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


async def write(root: Path, number: int) -> None:
    """A text and a version that all writers have, and others that only this one has."""
    there = filesystem.FilesystemStore(root)
    for code in (SAME, own(number)):
        await there.put(code)
    await there.shelve("default", "same", artifact(1, SAME))
    await there.shelve("default", "own", artifact(number + 1, own(number)))
    await there.point("default", "same", 1)


async def write_all(root: Path, numbers: list[int]) -> None:
    await asyncio.gather(*(write(root, number) for number in numbers))


async def replace(root: Path) -> None:
    """Everything that a store is asked to write, with a version in the way."""
    there = filesystem.FilesystemStore(root)
    await there.check(writes=True)
    for code in (EARLIER, LATER):
        await there.put(code)
        await there.shelve("default", "upper", artifact(1, code, code))
        await there.point("default", "upper", 1)


def die_at(step: int, root: Path) -> None:
    """Kill this process before the step of that number that changes something below *root*."""
    left = step

    def look(event: str, details: tuple[object, ...]) -> None:
        nonlocal left
        if event.partition(".")[0] in ("open", "os") and str(root) in str(details[:2]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def crash_everywhere(root: Path) -> None:
    """Die at step 1, 2, 3 … in a folder each, until there are no more steps; say how many."""
    for step in range(1, STEPS_MAX):
        folder = root / str(step)
        if os.fork() == 0:
            die_at(step, folder)
            asyncio.run(replace(folder))
            os._exit(0)
        if os.wait()[1] == 0:
            print(step - 1)  # noqa: T201 (who started this process reads it)
            return


if __name__ == "__main__":
    print("ready", flush=True)  # noqa: T201 (who started this process waits for it)
    sys.stdin.readline()
    where = Path(sys.argv[1])
    if sys.argv[2] == "crash":
        crash_everywhere(where)
    else:
        asyncio.run(write_all(where, [int(each) for each in sys.argv[2:]]))
