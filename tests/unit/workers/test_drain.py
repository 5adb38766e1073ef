"""A worker that stops is gone in the time that is documented, whatever it was at."""

import asyncio
import time
from types import SimpleNamespace

from streams import codec
from streams.messages import AdmitRequest
from workers import admitter, runtime, slots

WITHIN_S = 0.5


class Subscription:
    """Never drained, as by a broker that does not answer."""

    async def drain(self):
        await asyncio.Event().wait()


class Client:
    """A client whose broker says nothing; hands the test what was subscribed and published."""

    is_connected = True

    def __init__(self):
        self.take = None
        self.told = []

    async def subscribe(self, _subject, *, cb, **_):
        self.take = cb
        return Subscription()

    async def flush(self):
        pass

    async def publish(self, _subject, payload):
        self.told.append(codec.ADMIT_ANSWER.decode(payload).status)


class Cells:
    """A pool in which nothing ever loads."""

    async def load(self, _program):
        await asyncio.Event().wait()

    async def drop(self, _program):
        pass


async def test_a_drain_of_checks_has_one_deadline():
    """Neither the broker nor a check answers: both together take what one of them may."""
    client = Client()
    admitting = admitter.Admitter(SimpleNamespace(client=client), Cells(), ["admit"], queue="x")
    request = AdmitRequest(
        tenant="one", language="python", code="", deadline_ms=int(time.time() * 1000) + 60_000
    )
    message = SimpleNamespace(data=codec.ADMIT_REQUEST.encode(request), reply="inbox")
    async with admitting.opened():
        await client.take(message)
        await asyncio.sleep(0)  # so that the check begins
        begun = time.monotonic()
        await admitting.drain(WITHIN_S)
        assert WITHIN_S <= time.monotonic() - begun < 1.8 * WITHIN_S
    assert client.told == ["busy"]


async def test_checks_drain_beside_deliveries():
    """A delivery that ends only when the checks drain does so: neither waits for the other."""
    drained = asyncio.Event()
    given = []

    async def drain(within_s):
        given.append(within_s)
        drained.set()

    pool = runtime.Pool(
        name="x", sources=(), limits=slots.Limits(slots=1), handle=None, handle_s_max=1, drain=drain
    )
    worker = runtime.Worker(SimpleNamespace(closed=asyncio.Event()), pool)
    worker._active[asyncio.create_task(drained.wait())] = None
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(runtime.DRAIN_S / 2):
        await worker.run(stop)
    assert given == [runtime.DRAIN_S]
