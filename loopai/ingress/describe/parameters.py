"""Parameters that several routes have, and the values that examples share."""

from typing import Any, Final

from loopai.ingress import executions
from loopai.ingress.describe.operation import Parameter, text
from streams import subjects

TASK_ID: Final = "01a205e4-69d3-7fd5-8ef0-812bda983735"
EXECUTION_ID: Final = "01a205e4-746f-71ea-8fba-de391e72035d"
PROGRAM_ID: Final = "01a205e4-71e0-70b5-8842-e6a946fb1d99"
OPERATION_ID: Final = "01a205e4-6a77-7509-8183-6f2246af78d4"
BATCH_ID: Final = "01a205e4-d297-73b1-91e8-c4b322989d68"
DIGEST: Final = "5f1c6e9a" * 8
TRACE_ID: Final = "7892da1b02bf83f215022d98b4577ca5"
TIME: Final = "2026-11-23T00:53:07.827756Z"
INPUT: Final[dict[str, Any]] = {"text": "my package never arrived"}

TASK: Final = Parameter(
    name="task",
    where="path",
    summary="Id or name of a task.",
    schema=text(pattern=f"^{subjects.NAME.pattern}$"),
    example="tickets",
)
VERSION: Final = Parameter(
    name="version",
    where="path",
    summary="Version of the task's program.",
    schema={"type": "integer", "minimum": 1},
    example=1,
)
EXECUTION: Final = Parameter(
    name="execution",
    where="path",
    summary="Id of an execution.",
    schema=text(format="uuid"),
    example=EXECUTION_ID,
)
OPERATION: Final = Parameter(
    name="operation",
    where="path",
    summary="Id of an operation.",
    schema=text(format="uuid"),
    example=OPERATION_ID,
)
WAIT: Final = Parameter(
    name="wait",
    where="query",
    summary="Seconds to wait for the end before answering with the state as it is then.",
    schema={"type": "number", "minimum": 0, "maximum": executions.WAIT_MAX_S},
)
IF_MATCH: Final = Parameter(
    name="If-Match",
    where="header",
    summary="ETag of the revision that is to be changed; `*` or none: whichever there is.",
    schema=text(pattern=r'^(\*|(W/)?"?[0-9]{1,20}"?)$'),
)
IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    where="header",
    summary="ETags that the caller has: 304 where one of them is current.",
    schema=text(),
)
IDEMPOTENT: Final = Parameter(
    name="Idempotency-Key",
    where="header",
    summary="The same request, however often it is sent with this: done once, and one answer.",
    schema=text(pattern="^[!-~]{1,255}$"),
)
LAST_EVENT_ID: Final = Parameter(
    name="Last-Event-ID",
    where="header",
    summary="Of events: the last that the caller has had; what came before is not told again.",
    schema=text(),
)
PREFER: Final = Parameter(
    name="Prefer",
    where="header",
    summary="`respond-async`: 202 at once. `wait=5`: 202 if it takes longer (RFC 7240).",
    schema=text(),
)
API_VERSION: Final = Parameter(
    name="X-Api-Version",
    where="header",
    summary="The version that the caller was written for; there is only 1.",
    schema=text(enum=["1"]),
)
TRACEPARENT: Final = Parameter(
    name="traceparent",
    where="header",
    summary="W3C Trace Context: its trace id is kept in answers, records and logs. "
    "What is none is passed over.",
    schema=text(),
)
EVERYWHERE: Final = (API_VERSION, TRACEPARENT)
"""Of every route of the API."""
