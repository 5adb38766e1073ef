"""What a process shows of itself: small, whatever it is at."""

from streams import codec, presence, store, subjects, topology
from streams.connection import Connection
from streams.messages import WorkerPresence
from tests.wait import until


async def test_a_presence_tells_of_what_is_most_in_few_bytes(bus: Connection) -> None:
    """Strangers name 5,000 tasks at length: the bucket still has room for hundreds of workers."""
    rates = {
        subjects.placed("bulk", (0, 0), "x" * 128, f"t{number}".ljust(128, ".")): float(number)
        for number in range(5_000)
    }
    bucket = store.Bucket(bus, topology.WORKERS, codec.WORKER)
    found: WorkerPresence | None = None

    async def told() -> bool:
        nonlocal found
        entry = await bucket.get("executor.one")
        found = entry and entry.value
        return found is not None

    async with presence.shown(bus, pool="executor", instance="one", rates=lambda: rates):
        await until(told)

    assert found is not None
    assert len(codec.WORKER.encode(found)) < 2 * presence.BYTES_MAX
    assert list(found.rates.values()) == sorted(rates.values())[: -len(found.rates) - 1 : -1]
    assert len(found.rates) > 10
    assert topology.WORKERS.max_bytes // (2 * presence.BYTES_MAX) > 200
