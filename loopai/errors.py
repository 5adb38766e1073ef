"""Every error that a caller can see, and the two that tell a worker what to do with a message."""

from typing import Final, NamedTuple

import msgspec


class Code(NamedTuple):
    status: int
    """HTTP status."""
    title: str
    """One sentence that says when this happens."""


CODES: Final[dict[str, Code]] = {
    "MALFORMED_JSON": Code(400, "The body is not JSON."),
    "INVALID_QUERY": Code(400, "A query parameter or header has a value that it cannot have."),
    "UNAUTHENTICATED": Code(401, "The request has no credential that is valid."),
    "FORBIDDEN": Code(403, "The credential does not have the scope that this takes."),
    "UNSUPPORTED_VERSION": Code(400, "X-Api-Version asks for a version that there is not."),
    "MALFORMED_REQUEST": Code(400, "The request is not HTTP as RFC 9112 has it."),
    "NOT_FOUND": Code(404, "There is nothing at this path."),
    "TASK_NOT_FOUND": Code(404, "No task has this id or name."),
    "ARTIFACT_NOT_FOUND": Code(404, "The task has no artifact of this version."),
    "EXECUTION_NOT_FOUND": Code(404, "No execution of this id is queued, recorded or dead."),
    "OPERATION_NOT_FOUND": Code(404, "No operation has this id, or it is older than a week."),
    "KEY_NOT_FOUND": Code(404, "The tenant has no API key of this id."),
    "WEBHOOK_NOT_FOUND": Code(404, "No webhook has this id."),
    "DELIVERY_NOT_FOUND": Code(404, "The history of the webhook has no delivery of this id."),
    "METHOD_NOT_ALLOWED": Code(405, "The path exists, but not for this method."),
    "NOT_ACCEPTABLE": Code(406, "Accept leaves out every form that the answer could have."),
    "REQUEST_TIMEOUT": Code(408, "The request came too slowly to be waited for."),
    "TASK_ALREADY_EXISTS": Code(409, "The tenant has a task of this name already."),
    "NO_ACTIVE_VERSION": Code(409, "The task has no active version to execute."),
    "NO_PREVIOUS_VERSION": Code(409, "No other version was active before: there is no way back."),
    "NO_CANARY": Code(409, "The task has no canary to promote."),
    "ARTIFACT_NOT_ACTIVATABLE": Code(
        409, "A draft or failed artifact cannot answer, unless it is forced."
    ),
    "INPUT_IDLE": Code(
        408, "A stream of items brought none for too long, while none was on its way."
    ),
    "RESULTS_UNREAD": Code(408, "The results of a stream of items were not read for too long."),
    "EXECUTION_ENDED": Code(409, "The execution has ended already: there is nothing to cancel."),
    "TOO_MANY_KEYS": Code(409, "The tenant has as many API keys as it may have."),
    "IDEMPOTENCY_KEY_IN_USE": Code(409, "The first request with this key has not ended yet."),
    "ANSWER_NOT_KEPT": Code(409, "What this key was sent with is done; its answer is not kept."),
    "WEBHOOK_DISABLED": Code(409, "The webhook is disabled; enable it first."),
    "TOO_MANY_WEBHOOKS": Code(409, "The tenant has as many webhooks as it may have."),
    "CONFLICT": Code(409, "Others kept changing the same document; try again."),
    "PRECONDITION_FAILED": Code(412, "If-Match names a revision that is not the current one."),
    "BODY_TOO_LARGE": Code(413, "The body is larger than the limit."),
    "UNSUPPORTED_MEDIA_TYPE": Code(415, "The body is of a type, or coded in a way, not read here."),
    "HEADERS_TOO_LARGE": Code(431, "The request line and the headers are larger than the limit."),
    "INVALID_REQUEST": Code(422, "The body is JSON, but not of the documented form."),
    "IDEMPOTENCY_KEY_REUSED": Code(422, "Another request was sent with this idempotency key."),
    "INVALID_INPUT": Code(422, "The input does not match the task's input schema."),
    "INVALID_PROGRAM": Code(422, "The program was refused before it could run."),
    "TOO_FEW_EXAMPLES": Code(422, "The task has too few labelled examples to generate from."),
    "RATE_LIMITED": Code(429, "The caller has sent more than its rate or its quota allows."),
    "INTERNAL": Code(500, "Something broke that is not the caller's fault."),
    "BACKLOG_FULL": Code(503, "The task, or its tenant, has as much queued work as it may have."),
    "OVERLOADED": Code(503, "As many callers wait for results here as may."),
    "UNAVAILABLE": Code(503, "The bus does not answer; the request may or may not be queued."),
    "ISSUER_UNAVAILABLE": Code(
        503, "The keys of the token issuer cannot be had, so no token can be checked."
    ),
    "RUNTIME_UNAVAILABLE": Code(503, "No worker that runs the language could check the program."),
    "DEADLINE_PASSED": Code(504, "No result arrived in time; look the execution up by its id."),
    "PROGRAM_DAMAGED": Code(500, "The store holds another text than the version was made with."),
    "STORE_UNAVAILABLE": Code(503, "The artifact store cannot be written or read."),
}


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with a body: *path* in JSON Pointer form (RFC 6901) and a sentence."""

    path: str
    message: str


class ApiError(Exception):
    """Becomes a problem document (RFC 9457) with *code*, which must stand in CODES."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        **extra: str | int,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = CODES[code].status
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.extra = extra
        """Members added to the problem document, such as `execution_id`."""


class Rejected(Exception):  # noqa: N818 (it says what happens to the message)
    """The message can never be handled: it goes to DEAD with this reason and is terminated."""


class Transient(Exception):  # noqa: N818 (it says what happens to the message)
    """The message cannot be handled now: it is handed back and redelivered after a delay."""

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class StartupError(Exception):
    """A process cannot start. The message says what is wrong and how to mend it; exit code 1."""
