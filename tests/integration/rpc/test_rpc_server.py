"""The server of gRPC: where it listens, how full it may be, and how it ends."""

import asyncio
import socket

import grpc
import pytest

from loopai import errors
from loopai.ingress.rpc.server import Server
from tests.integration.rpc import caller as calling
from tests.integration.rpc.conftest import staged
from tests.wait import until

WAITING_MAX = 4


async def test_an_address_that_is_taken_is_told(tmp_path):
    """As HTTP does, with the setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with staged(tmp_path, pools=()) as stage:
            second = Server(stage.system.services, stage.system.app)
            port = taken.getsockname()[1]
            with pytest.raises(errors.StartupError, match="LOOPAI_GRPC"):
                await second.start("127.0.0.1", port)
            await second.stop(0)


async def test_no_more_wait_than_may(tmp_path):
    """Executions beyond it are OVERLOADED; all calls beyond twice of it are not taken at all."""
    async with staged(tmp_path, pools=(), waiting_max=WAITING_MAX) as stage:
        await stage.system.create()
        caller = await stage.caller()
        calls = [caller.execute(timeout_ms=60_000) for _ in range(WAITING_MAX)]
        await until(lambda: stage.system.services.dispatcher.waiting == WAITING_MAX)
        found = await calling.refusal(caller.execute())
        assert (found.status, found.code, found.retry_after_s) == ("UNAVAILABLE", "OVERLOADED", 1)
        batches = [caller.batch() for _ in range(WAITING_MAX)]
        for each in batches:
            await each.wait_for_connection()
        codes = await asyncio.gather(*[caller.execute().code() for _ in range(5)])
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        for each in (*calls, *batches):
            each.cancel()
        await until(lambda: stage.system.services.dispatcher.waiting == 0)


async def test_terms_that_do_not_come_are_not_waited_for(tmp_path):
    """A batch that is opened and says nothing ends when a request over HTTP would."""
    async with staged(tmp_path, pools=(), receive_s=1) as stage:
        caller = await stage.caller()
        found = await calling.refusal(caller.batch())
        assert (found.status, found.code) == ("DEADLINE_EXCEEDED", "REQUEST_TIMEOUT")


async def test_an_idle_batch_ends_with_its_reason(tmp_path):
    """No item for too long: the summary says so, as over HTTP."""
    async with staged(tmp_path, batch_idle_s=1) as stage:
        await stage.system.create()
        caller = await stage.caller()
        call = caller.batch()
        await call.write(calling.terms())
        await call.write(calling.items([b'"a"']))
        results, summary = await calling.whole(call)
        assert [each.output for each in results] == [b'"A"']
        assert summary.problem.code == "INPUT_IDLE"


async def test_a_drain_lets_calls_end(tmp_path):
    """What has begun is answered; what comes then is not taken."""
    async with staged(tmp_path, pools=()) as stage:
        from workers import executor, recorder  # noqa: PLC0415 (they are started later)

        await stage.system.create()
        caller = await stage.caller()
        call = caller.execute()
        await until(lambda: stage.system.services.dispatcher.waiting == 1)
        stopping = asyncio.create_task(stage.server.stop(10))
        late = await stage.caller()
        await until_refused(late)
        await stage.system.start_pool(recorder)
        await stage.system.start_pool(executor)
        assert (await call).output == b'"A"'
        await stopping


async def until_refused(caller):
    async def refused() -> bool:
        return await caller.execute(deadline_s=2).code() is grpc.StatusCode.UNAVAILABLE

    await until(refused)
