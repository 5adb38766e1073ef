"""`loopai health`: whether a running Loopai serves what it accepts."""

import asyncio

import msgspec
import typer

from loopai.cli import api, options, output


class Health(msgspec.Struct, frozen=True):
    """`GET /health`, as far as it is shown."""

    status: str
    version: str
    checks: dict[str, str]
    workers: dict[str, int]


def health(url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False) -> None:
    """Show whether a running Loopai serves what it accepts, and the workers that it has.

    Exit code 1 when it does not. `loopai doctor` says how to mend it.

    Example: `loopai health --url https://loopai.example.org`
    """
    answer = asyncio.run(_get(url))
    found = api.decode(answer, Health)
    if as_json:
        output.print_json(answer)
    else:
        rows = [("status", found.status), ("version", found.version), *found.checks.items()]
        rows += [(pool, f"{count} running") for pool, count in found.workers.items()]
        output.stdout().print(output.grid(("", ""), rows))
    if found.status != "healthy":
        raise typer.Exit(1)


async def _get(url: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get("/health")
