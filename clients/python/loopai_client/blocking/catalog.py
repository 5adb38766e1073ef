"""Tasks, the versions of their programs, and which of these answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from loopai_client import models, requests
from loopai_client.blocking.transport import Transport
from loopai_client.requests import UNSET, path, request


class Tasks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        description: str | None = None,
        input_schema: Any = UNSET,
        output_schema: Any = UNSET,
        examples: Sequence[Mapping[str, Any]] | None = None,
        accuracy_target: float | None = None,
        latency_target_ms: float | None = None,
        sampling_rate: float | None = None,
    ) -> models.Task:
        """A new task. *examples* have `input` and `output`; schemas are JSON Schema."""
        body = requests.given(
            name=name,
            description=description,
            examples=examples,
            accuracy_target=accuracy_target,
            latency_target_ms=latency_target_ms,
            sampling_rate=sampling_rate,
        )
        schemas = {"input_schema": input_schema, "output_schema": output_schema}
        asked = request("POST", path("tasks"), body=body | schemas)
        return self._transport.send(asked, models.Task)

    def get(self, task: str) -> models.Task:
        """The task of this id or name."""
        return self._transport.send(request("GET", path("tasks", task)), models.Task)

    def list(self) -> list[models.Task]:
        """All tasks by name, without their examples."""
        return (self._transport.send(request("GET", path("tasks")), models.Tasks)).tasks

    def change(
        self,
        task: str,
        *,
        description: str | None = None,
        input_schema: Any = UNSET,
        output_schema: Any = UNSET,
        examples: Sequence[Mapping[str, Any]] | None = None,
        accuracy_target: float | None = None,
        latency_target_ms: float | None = None,
        sampling_rate: float | None = None,
        if_match: int | None = None,
    ) -> models.Task:
        """Change the fields given; with *if_match* only at that `revision`. ConflictError."""
        body = requests.given(
            description=description,
            examples=examples,
            accuracy_target=accuracy_target,
            latency_target_ms=latency_target_ms,
            sampling_rate=sampling_rate,
        )
        schemas = {"input_schema": input_schema, "output_schema": output_schema}
        asked = request("PATCH", path("tasks", task), body=body | schemas, if_match=if_match)
        return self._transport.send(asked, models.Task)

    def delete(self, task: str, *, if_match: int | None = None) -> None:
        """Delete the task, its versions and its rollout; records stay."""
        self._transport.read(request("DELETE", path("tasks", task), if_match=if_match))


class Artifacts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        task: str,
        code: str,
        *,
        language: str = "python",
        isolation: str | None = None,
        activate: bool = False,
    ) -> models.Artifact:
        """A version by hand. InvalidRequestError with INVALID_PROGRAM where it cannot run."""
        body = requests.given(code=code, language=language, isolation=isolation, activate=activate)
        asked = request("POST", path("tasks", task, "artifacts"), body=body)
        return self._transport.send(asked, models.Artifact)

    def list(self, task: str) -> list[models.Artifact]:
        """All versions, newest first, without their texts."""
        asked = request("GET", path("tasks", task, "artifacts"))
        return (self._transport.send(asked, models.Artifacts)).artifacts

    def get(self, task: str, version: int) -> models.Artifact:
        """One version, with `code`."""
        asked = request("GET", path("tasks", task, "artifacts", version))
        return self._transport.send(asked, models.Artifact)

    def program(self, task: str, version: int) -> str:
        """The text of one version, alone."""
        asked = request("GET", path("tasks", task, "artifacts", version, "program"))
        return (self._transport.read(asked)).decode()

    def activate(self, task: str, version: int, *, force: bool = False) -> models.Rollout:
        """Let this version answer; a draft or a failed one takes *force*."""
        target = path("tasks", task, "artifacts", version, "activate")
        asked = request("POST", target, body={"force": True} if force else UNSET)
        return self._transport.send(asked, models.Rollout)


class Rollouts:
    """Which versions of a task answer."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, task: str) -> models.Rollout:
        """What answers now, and the last hundred changes."""
        asked = request("GET", path("tasks", task, "rollout"))
        return self._transport.send(asked, models.Rollout)

    def change(
        self,
        task: str,
        *,
        active: Any = UNSET,
        canary: Any = UNSET,
        shadow: Any = UNSET,
        force: bool = False,
        if_match: int | None = None,
    ) -> models.Rollout:
        """Change what is given; None removes a canary (`{"version", "percent"}`) or a shadow."""
        body = {"active": active, "canary": canary, "shadow": shadow, "force": force or UNSET}
        asked = request("PUT", path("tasks", task, "rollout"), body=body, if_match=if_match)
        return self._transport.send(asked, models.Rollout)

    def promote(self, task: str) -> models.Rollout:
        """The canary becomes active."""
        asked = request("POST", path("tasks", task, "rollout", "promote"))
        return self._transport.send(asked, models.Rollout)

    def rollback(self, task: str) -> models.Rollout:
        """Back to the version that was active before."""
        asked = request("POST", path("tasks", task, "rollout", "rollback"))
        return self._transport.send(asked, models.Rollout)
