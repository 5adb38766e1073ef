"""All that is known of one execution, on a screen."""

import asyncio
from typing import Any

import msgspec

from loopai.cli import api, output


def path(execution: str) -> str:
    return f"/api/v1/executions/{api.segment(execution)}"


def show(url: str, execution: str, *, as_json: bool) -> None:
    """Print *execution*, a field on each line."""
    body = asyncio.run(_get(url, execution))
    if as_json:
        output.print_json(body)
        return
    found = api.decode(body, dict[str, msgspec.Raw])
    error = msgspec.json.decode(found.pop("error", api.NULL), type=dict[str, Any] | None)
    texts = {name: bytes(value).decode() for name, value in found.items()}
    # Its message is the `error_message` that stands above.
    texts |= {f"error_{name}": _line(v) for name, v in (error or {}).items() if name != "message"}
    rows = [(name, text) for name, text in texts.items() if text not in {"null", '""', ""}]
    output.stdout().print(output.grid(("", ""), rows))


def _line(value: object) -> str:
    """*value* for a terminal: text as it is, but for what would move its cursor."""
    if not isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value
    )


async def _get(url: str, execution: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(path(execution))
