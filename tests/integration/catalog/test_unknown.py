"""Tasks that are not there: cheap to ask for, and found at once when they come."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopai import errors
from loopai.catalog import catalog, unknown
from loopai.catalog.stores import filesystem
from loopai.embedded.broker import Broker
from streams import connection, ids, messages
from tests.wait import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def task(name: str) -> messages.TaskSpecification:
    return messages.TaskSpecification(
        id=ids.new(), tenant="default", name=name, created_at=NOW, updated_at=NOW
    )


class Front:
    """The catalogue of a process, and what it sends to the broker."""

    def __init__(self, connected: connection.Connection, known: catalog.Catalog) -> None:
        self.known = known
        self._connected = connected

    @property
    def sent(self) -> int:
        return int(self._connected.client.stats["out_msgs"])

    def is_in_memory(self, reference: str) -> bool:
        return self.known.find("default", reference) is not None

    async def knows(self, reference: str) -> bool:
        try:
            await self.known.task("default", reference)
        except errors.ApiError as error:
            if error.code != "TASK_NOT_FOUND":
                raise
            return False
        return True


async def front(broker: Broker, tmp_path: Path) -> AsyncIterator[Front]:
    connected = await connection.connect(broker.url, name="test")
    store = filesystem.FilesystemStore(tmp_path / "texts")
    async with catalog.Catalog(connected, store).opened() as known:
        yield Front(connected, known)
    await connected.close()


here = pytest.fixture(front, name="here")
elsewhere = pytest.fixture(front, name="elsewhere")


async def test_the_same_unknown_name_is_asked_for_once(
    bus: connection.Connection, here: Front
) -> None:
    """Whoever asks within a second is answered from memory; after it the broker is asked again."""
    assert not await here.knows("nope")
    begun, sent = time.monotonic(), here.sent
    answers = [await here.knows("nope") for _ in range(1_000)]
    assert here.sent - sent <= 3 * (time.monotonic() - begun) // unknown.KEPT_S
    assert not any(answers)

    async def asks_again() -> bool:
        assert not await here.knows("nope")
        return here.sent > sent

    await until(asks_again)


async def test_a_flood_of_made_up_names_shares_its_questions(
    bus: connection.Connection, here: Front
) -> None:
    """The one on its way, and one more for all who came since."""
    sent = here.sent
    found = await asyncio.gather(*(here.knows(f"made-up-{number}") for number in range(12_000)))
    assert not any(found)
    assert here.sent - sent <= 4
    assert len(here.known._unknown) == unknown.NAMES_MAX


async def test_what_can_be_no_name_is_never_asked_for(
    bus: connection.Connection, here: Front
) -> None:
    """However long it is."""
    sent = here.sent
    for reference in ("", "a b", "-a", "ä", "a" * 10_000):
        assert not await here.knows(reference)
    assert here.sent == sent
    assert len(here.known._unknown) == 0


async def test_a_task_that_comes_after_it_was_missed_is_found_within_milliseconds(
    bus: connection.Connection, here: Front, elsewhere: Front
) -> None:
    """By name and by id, from the watch, without waiting for a second to pass."""
    waited = []
    for number in range(20):
        made = task(f"task-{number}")
        for reference in (made.name, made.id):
            assert not await here.knows(reference)
        await elsewhere.known.create_task(made)
        created = time.monotonic()
        sent = here.sent
        await until(functools.partial(here.is_in_memory, made.name))
        waited.append(time.monotonic() - created)
        assert await here.knows(made.name)
        assert await here.knows(made.id)
        # The watch may ask for more beside it; a lookup asks for nothing.
        assert here.sent - sent <= 1
    assert sorted(waited)[len(waited) // 2] < unknown.KEPT_S / 10


async def test_whose_answer_will_stand_asks_even_for_what_was_missed(
    bus: connection.Connection, here: Front, elsewhere: Front
) -> None:
    """An executor must not record that there is no such task where there has been one since."""
    for number in range(20):
        made = task(f"task-{number}")
        assert not await here.knows(made.name)
        await elsewhere.known.create_task(made)
        found = await here.known.task("default", made.name, even_if_missed=True)
        assert found.id == made.id


async def test_a_task_that_nobody_missed_is_found_without_waiting_for_the_watch(
    bus: connection.Connection, here: Front, elsewhere: Front
) -> None:
    """What one process wrote another finds."""
    for number in range(20):
        await elsewhere.known.create_task(task(f"task-{number}"))
        assert await here.knows(f"task-{number}")
