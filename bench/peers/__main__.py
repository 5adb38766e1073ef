"""`python -m bench.peers NAME --broker URL`: one web process and one worker process.

The first line on stdout is the address, once a call was answered. Both end with SIGTERM.
"""

import argparse
import asyncio
import contextlib
import ctypes
import importlib
import signal
import subprocess
import sys
from typing import Protocol

import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse

from bench.peers import web

NAMES = ("arq", "celery", "faststream", "taskiq")
ANSWER_S_MAX = 30.0
_PR_SET_PDEATHSIG = 1


class Peer(Protocol):
    def work(self, broker: str) -> None:
        """Run the worker until a signal ends it."""

    def caller(self, broker: str) -> contextlib.AbstractAsyncContextManager[web.Call]:
        """Calls of the worker, from the web process."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--broker", required=True, help="nats:// or redis:// address of its own")
    parser.add_argument("--worker", action="store_true", help="only the worker")
    arguments = parser.parse_args()
    peer: Peer = importlib.import_module(f"bench.peers.{arguments.name}")
    if arguments.worker:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        peer.work(arguments.broker)
    else:
        uvloop.run(_serve(peer, arguments.broker))


async def _serve(peer: Peer, broker: str) -> None:
    worker = _worker()
    try:
        async with peer.caller(broker) as call:
            await _answered(call, worker)

            async def execute(request: Request) -> JSONResponse:
                body = await request.json()
                return JSONResponse({"output": await call(body["input"])})

            await web.serve(execute)
    finally:
        worker.terminate()
        worker.wait()


def _worker() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.peers", *sys.argv[1:], "--worker"]
    # Its banner must not be taken for our address.
    return subprocess.Popen(command, stdout=sys.stderr)


async def _answered(call: web.Call, worker: subprocess.Popen[bytes]) -> None:
    """Return when the worker has answered one call."""
    async with asyncio.timeout(ANSWER_S_MAX):
        while True:
            # A request that nobody subscribes to yet is an error at once, or never answered.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(call({"a": 1}), 1)
                return
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended with exit code {worker.returncode}")
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
