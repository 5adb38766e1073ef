"""`python -m bench.peers.echo`: answers with what it was sent, and does nothing else."""

import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse

from bench.peers import web


async def echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())


if __name__ == "__main__":
    uvloop.run(web.serve(echo))
