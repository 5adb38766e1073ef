"""An ingress process that serves gRPC as well: it drains, and says what it lacks."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import pytest

from tests.integration.rpc.caller import Caller
from tests.system import System
from tests.wait import until
from workers import executor, recorder

WITHOUT = """
import sys
sys.modules["grpc"] = None
from loopai.ingress import __main__
sys.argv = ["loopai.ingress"]
sys.exit(__main__.main())
"""


@pytest.fixture
async def started(broker, bus, tmp_path):
    """Starts ingress processes on the data of a product without workers; both are given."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(stack, broker, bus, tmp_path / "data", pools=())

        async def start(*arguments, **environment):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments),
                env={
                    **os.environ,
                    "LOOPAI_NATS_URL": broker.url,
                    "LOOPAI_HTTP": "127.0.0.1:0",
                    "LOOPAI_DATA_DIR": str(tmp_path / "data"),
                    **environment,
                },
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )

            async def end() -> None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

            stack.push_async_callback(end)
            return process

        yield system, start


async def test_a_process_that_is_told_to_end_answers_what_it_has(started):
    """SIGTERM: the call that has begun gets its result, then the process ends well."""
    system, start = started
    await system.create()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = await start("-m", "loopai.ingress", LOOPAI_GRPC=f"127.0.0.1:{port}")
    caller = Caller(port)
    await asyncio.wait_for(caller.channel.channel_ready(), 20)

    before = (await system.bus.jetstream.stream_info("EXECUTE")).state.messages
    call = caller.execute()

    async def queued() -> bool:
        state = (await system.bus.jetstream.stream_info("EXECUTE")).state
        return bool(state.messages > before)

    await until(queued)
    process.send_signal(signal.SIGTERM)
    await system.start_pool(recorder)
    await system.start_pool(executor)
    assert (await call).output == b'"A"'
    assert await asyncio.wait_for(process.wait(), 15) == 0
    await caller.close()


async def test_without_the_extra_it_says_how_to_have_it(started):
    """No process starts that leaves out what it was told to serve."""
    _, start = started
    process = await start("-c", WITHOUT, LOOPAI_GRPC="127.0.0.1:0")
    _, told = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"LOOPAI_GRPC='127.0.0.1:0': there is no grpc" in told
    assert b"pip install 'loopai[grpc]'" in told
