"""Tells schemathesis how a body of lines is sent: as it stands."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:  # any: what it made up
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
