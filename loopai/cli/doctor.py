"""`loopai doctor`: what Loopai needs, each part tried from here, and how to mend what fails."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from loopai.cli import failure, options, output

if TYPE_CHECKING:
    from loopai.cli import checks


def doctor(url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False) -> None:
    """Try what Loopai needs, with the settings of this environment, and say how to mend it.

    Broker, streams, keys, store of programs, cache, sandbox, API and pools: each is `ok`, `off`
    (optional and not in use) or `failed`, with what to do about it. Nothing is changed.
    Exit codes: 0 all is well; 1 something is not.

    Example: `LOOPAI_NATS_URL=nats://10.0.0.5 loopai doctor`
    """
    found = asyncio.run(_examine(url, as_json=as_json))
    if as_json:
        output.print_json(msgspec.json.encode({"findings": found}))
    failed = [each.part for each in found if each.state == "failed"]
    if failed:
        raise failure.Failure(f"{len(failed)} of {len(found)} do not work: {', '.join(failed)}")


async def _examine(url: str, *, as_json: bool) -> "list[checks.Finding]":
    from loopai.cli import checks  # noqa: PLC0415 (kept from `loopai --help`)

    found = []
    async for finding in checks.findings(url):
        found.append(finding)
        if not as_json:
            # One by one: some take seconds to fail.
            output.print_line(f"{finding.state:<7} {finding.part:<9} {finding.detail}")
            if finding.mend:
                output.print_line(f"{'':<7} {'':<9} {finding.mend}")
    return found
