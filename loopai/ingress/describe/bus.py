"""`/asyncapi.json`: the bus as AsyncAPI 3."""

import msgspec


def encoded() -> bytes:
    return msgspec.json.encode({"asyncapi": "3.0.0"})
