"""What schemathesis is told: how a body of lines is sent, and that no header comes undescribed."""

from typing import Any

import schemathesis

from tests.contract import headers


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:  # any: what it made up
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


@schemathesis.check
def headers_are_described(_: Any, answer: Any, case: Any) -> None:  # any: its own
    """Whatever an answer has beyond what HTTP needs, a client may rely on."""
    operation = case.operation.definition.raw
    # What the path or the method leads to is no answer of this operation: another check sees it.
    if str(answer.status_code) in operation["responses"]:
        found = headers.undocumented(operation, answer.status_code, answer.headers)
        assert not found, f"not described: {', '.join(sorted(found))}"
