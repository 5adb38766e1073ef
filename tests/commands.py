"""Which command does what each operation of the API does; and commands called in this process."""

import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

import typer

from loopai.cli import main

COMMANDS: Final = {
    "createTask": "task create",
    "listTasks": "task list",
    "getTask": "task show",
    "changeTask": "task update",
    "deleteTask": "task delete",
    "generateProgram": "task generate",
    "getOperation": "operation show",
    "followOperation": "operation follow",
    "uploadProgram": "task upload",
    "listVersions": "artifact list",
    "getVersion": "artifact show",
    "getProgram": "artifact program",
    "activateVersion": "rollout activate",
    "getRollout": "rollout show",
    "changeRollout": "rollout canary",
    "promoteCanary": "rollout promote",
    "rollBack": "rollout rollback",
    "execute": "run",
    "getExecution": "execution show",
    "cancelExecution": "execution cancel",
    "followExecution": "execution follow",
    "executeBatch": "batch",
    "createWebhook": "webhook create",
    "listWebhooks": "webhook list",
    "getWebhook": "webhook show",
    "changeWebhook": "webhook update",
    "deleteWebhook": "webhook delete",
    "pingWebhook": "webhook ping",
    "listDeliveries": "webhook deliveries",
    "redeliver": "webhook redeliver",
    "createKey": "key create",
    "listKeys": "key list",
    "revokeKey": "key revoke",
    "getQueues": "queues",
    "getSync": "sync",
    "getHealth": "health",
}
WITHOUT: Final = {
    "executeTask": "the same as `execute`, for clients of the original",
    "getLive": "a probe asks it",
    "getReady": "a probe asks it",
    "getMetrics": "Prometheus asks it; people have `top`",
    "getOpenApi": "a document for tools",
    "getAsyncApi": "a document for tools",
    "getSwagger": "a page for browsers",
}
"""Operations without a command, and why."""


def every_command() -> dict[str, Any]:  # Any: click's, which typer has of its own
    """All commands by their words."""
    return dict(_inner(typer.main.get_command(main.app), ""))


def _inner(command: Any, words: str) -> Iterator[tuple[str, Any]]:  # Any: likewise
    for name, each in getattr(command, "commands", {}).items():
        found = f"{words} {name}".strip()
        if hasattr(each, "commands"):
            yield from _inner(each, found)
        else:
            yield found, each


def takes_json(command: Any) -> bool:  # Any: likewise
    return any("--json" in each.opts for each in command.params)


async def call(url: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `loopai …` with the API at *url*. One at a time."""
    with mock.patch.dict(os.environ, {"LOOPAI_URL": url, "COLUMNS": "200"}):
        return await asyncio.to_thread(_call, arguments)


def _call(arguments: tuple[str, ...]) -> tuple[int, str, str]:
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main.main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
    sys.stdout.flush()
    return code, *(_text(each) for each in (out, err))  # type: ignore[return-value]  # two of them


def _text(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()
