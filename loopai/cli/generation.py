"""Ask for a program, follow its making, and show how it did on examples it did not see."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from loopai.cli import api, waiting
from streams import messages

if TYPE_CHECKING:
    from rich.console import Console


class Request(msgspec.Struct, frozen=True, kw_only=True):
    engine: str = "examples"
    seed: int = 0
    activate: bool = True


async def generate(
    client: api.Api, task: str, request: Request, *, end_s: float, stage: Callable[[str], None]
) -> messages.Operation:
    """The operation once it has ended, or as it stands at *end_s* on the monotonic clock."""
    path, body = api.task_path(task, "generate"), msgspec.json.encode(request)
    operation = api.decode(await client.post(path, body), messages.Operation)
    if operation.status not in waiting.UNDER_WAY:
        return operation
    path, left_s = f"/api/v1/operations/{operation.id}", max(0.0, end_s - time.monotonic())
    with waiting.goes_on(f"it goes on; loopai operation wait {operation.id} waits for it"):
        answer = await waiting.until_ended(
            client, path, look_s=waiting.STAGE_S, timeout_s=left_s, stage=stage
        )
    return api.decode(answer, messages.Operation)


def why_failed(operation: messages.Operation) -> str:
    if operation.error is None:
        return operation.message or "the generation failed"
    return f"{operation.error.code}: {operation.error.message}"


def why_not_active(operation: messages.Operation, artifact: messages.ProgramArtifact) -> str:
    reason = artifact.status_reason or operation.message or f"it is {artifact.status}"
    return f"version {artifact.version} did not become active: {reason}"


def show(artifact: messages.ProgramArtifact, screen: "Console") -> None:
    """Print how *artifact* did on the examples held back from its engine."""
    from loopai.cli import output  # noqa: PLC0415 (kept from `loopai --help`)

    screen.print(
        f"version {artifact.version} ({artifact.status}): {artifact.size_bytes:,} bytes of "
        f"{artifact.language}",
        soft_wrap=True,
    )
    found = artifact.evaluation
    if found is None:
        return
    rows = [
        (each.label, f"{each.precision:.3f}", f"{each.recall:.3f}", str(each.support))
        for each in found.classes
    ]
    if rows:
        screen.print(output.grid(("label", "precision#", "recall#", "held out#"), rows))
    right = "right" if found.tolerance is None else f"within {found.tolerance:.4g}"
    screen.print(
        f"{found.examples_seen} examples seen, {found.examples_held_out} held out: of these "
        f"{found.held_out_accuracy:.1%} {right}, at least {found.lower_bound:.1%} with 95 % "
        "confidence",
        soft_wrap=True,
    )
