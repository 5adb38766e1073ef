"""What to do about each error: the words of docs/reference/errors.md that no code says."""

from typing import Final

REMEDIES: Final = {
    "MALFORMED_JSON": "Mend the body; `detail` names the byte.",
    "INVALID_QUERY": (
        "Mend it: `wait` is 0 to 300 seconds, `If-Match` the ETag of a task or of a rollout."
    ),
    "UNSUPPORTED_VERSION": "Leave `X-Api-Version` out, or send `1`: there is no other version.",
    "MALFORMED_REQUEST": "Send HTTP/1.1. The connection is closed.",
    "NOT_FOUND": "Look at the [routes](http.md).",
    "TASK_NOT_FOUND": "`GET /api/v1/tasks` lists them.",
    "ARTIFACT_NOT_FOUND": "`GET …/artifacts` lists them.",
    "EXECUTION_NOT_FOUND": "Check the id; records are kept for 30 days.",
    "OPERATION_NOT_FOUND": "Check the id.",
    "METHOD_NOT_ALLOWED": "Look at the [routes](http.md).",
    "NOT_ACCEPTABLE": "`detail` names what there is; `Accept: */*` takes any of it.",
    "REQUEST_TIMEOUT": (
        "Send faster: the head within `LOOPAI_RECEIVE_S`, a body in a second more for each 4 "
        "KiB. The connection is closed."
    ),
    "TASK_ALREADY_EXISTS": "Choose another name, or `PATCH` that task.",
    "NO_ACTIVE_VERSION": "Generate one, or upload and activate one.",
    "NO_PREVIOUS_VERSION": "Activate the version that should answer.",
    "NO_CANARY": "Start one, or activate the version that should answer.",
    "ARTIFACT_NOT_ACTIVATABLE": (
        '`detail` has the reason, such as the accuracy missed. `"force": true` does it all '
        "the same, and the history of the rollout says so."
    ),
    "INPUT_IDLE": (
        "In the last line of the answer; all that came before is answered. Send the rest as a"
        " new batch."
    ),
    "RESULTS_UNREAD": (
        "In the last line of the answer: read results while you write items. Items without a "
        "result may have run."
    ),
    "EXECUTION_ENDED": (
        "`execution_status` says how; `GET /api/v1/executions/{execution_id}` has the rest."
    ),
    "CONFLICT": "Try again.",
    "PRECONDITION_FAILED": (
        "`detail` has the current one. Read the task, or its rollout, again and decide again."
    ),
    "BODY_TOO_LARGE": "Send less, or raise the [setting](settings.md).",
    "UNSUPPORTED_MEDIA_TYPE": (
        "Send `Content-Type: application/json`, or none, and no `Content-Encoding`. What "
        "`curl -d` says is taken, from browsers it is not. Batches may be "
        "`application/x-ndjson`."
    ),
    "HEADERS_TOO_LARGE": (
        "Send less: request line and headers are 32 KiB at most, which `limit_bytes` says. "
        "The connection is closed."
    ),
    "INVALID_REQUEST": "`errors` has the fields.",
    "INVALID_INPUT": "`errors` has the places.",
    "INVALID_PROGRAM": (
        "`detail` has the line and the reason. As the error of an operation: no candidate "
        "could be used."
    ),
    "TOO_FEW_EXAMPLES": (
        "Give at least 20 with different inputs, and two for every output. It is the error of"
        " an operation, not of a request."
    ),
    "INTERNAL": "Look for the `trace_id` in the log of the ingress.",
    "BACKLOG_FULL": "Wait for `Retry-After`, then try again; or run more executors.",
    "OVERLOADED": (
        "Wait for `Retry-After`, then try again: what comes sooner on the same connection is "
        "not read before, or before there is room; run more executors, or more ingress "
        "processes, or raise `LOOPAI_WAITING_MAX`."
    ),
    "UNAVAILABLE": "Where there is an `execution_id`, look it up before trying again.",
    "RUNTIME_UNAVAILABLE": (
        "`detail` says whether none is there (start an executor that has the runtime) or none"
        " had time (try again). Nothing was stored."
    ),
    "DEADLINE_PASSED": "It may still come: `GET /api/v1/executions/{execution_id}`.",
    "PROGRAM_DAMAGED": (
        "It does not run. `detail` names the place. Upload the same text again, which "
        "replaces it, or activate another version."
    ),
    "STORE_UNAVAILABLE": (
        "`detail` names the place and the reason: see "
        "[stores](../how-to/stores.md#when-something-is-wrong). Wait for `Retry-After`, then "
        "try again: nothing was stored. An execution that ends with it was tried five times."
    ),
    "UNAUTHENTICATED": (
        "Send an API key, or a token of the issuer, as [secure](../how-to/secure.md) shows. "
        "Whether a key is unknown, revoked or has expired is not said."
    ),
    "FORBIDDEN": ("`scope` names it. Ask an admin of the tenant for a key that has it."),
    "KEY_NOT_FOUND": ("`GET /api/v1/keys` lists them."),
    "WEBHOOK_NOT_FOUND": ("`GET /api/v1/webhooks` lists them."),
    "DELIVERY_NOT_FOUND": ("It has the last 200 attempts, of seven days."),
    "TOO_MANY_KEYS": ("Revoke one that nobody needs; what has ended makes room by itself."),
    "IDEMPOTENCY_KEY_IN_USE": (
        "Ask again after `Retry-After`. An execution never gives this: its second caller "
        "waits with the first."
    ),
    "ANSWER_NOT_KEPT": (
        "It held a secret, or more than 1 MiB, or RECORDS, full, has dropped the record of "
        "`execution_id`. Nothing was done again; look at what the first request made."
    ),
    "WEBHOOK_DISABLED": (
        '`PATCH` it with `{"enabled": true}`; `disabled_reason` says why it was disabled by itself.'
    ),
    "TOO_MANY_WEBHOOKS": ("Delete one that nobody needs."),
    "IDEMPOTENCY_KEY_REUSED": (
        "Take a new key for a new request; a request that is repeated must be the same in "
        "method, path, query and body, byte for byte."
    ),
    "RATE_LIMITED": (
        "Wait for `Retry-After`, in seconds; after it a request that costs as much is let in,"
        " if you send none meanwhile. `detail` says which [limit](http.md#limits)."
    ),
    "ISSUER_UNAVAILABLE": (
        "API keys work on. Wait for `Retry-After`, then try again; the log of the ingress "
        "says what is wrong."
    ),
}
"""By code; what may be of use beside its sentence in `loopai.errors`."""
