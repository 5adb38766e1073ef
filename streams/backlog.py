"""What EXECUTE holds, by stored subject: read from the broker, never counted by us."""

import json
from datetime import datetime
from typing import Any, Final

import msgspec
import nats.errors

from streams import replay, topology
from streams.connection import Connection

ANSWER_S: Final = 5.0


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct, frozen=True):
    state: _State = _State()
    error: dict[str, Any] | None = None  # Any: the broker's own words


_infos = msgspec.json.Decoder(_Info)


async def messages(connection: Connection, subject: str = ">") -> dict[str, int]:
    """How many messages there are, in hand or not, by stored subject; those that match *subject*.

    Of at most 100,000 subjects, which is as many as the broker tells at once. replay.ReplayFailed.
    """
    name = topology.EXECUTE.name
    request = json.dumps({"subjects_filter": subject}).encode()
    try:
        answer = await connection.client.request(
            f"$JS.API.STREAM.INFO.{name}", request, timeout=ANSWER_S
        )
        info = _infos.decode(answer.data)
    except (nats.errors.Error, TimeoutError, msgspec.DecodeError) as error:
        raise replay.ReplayFailed(f"{name}: no answer from the broker") from error
    if info.error is not None:
        raise replay.ReplayFailed(f"{name}: {info.error.get('description')}")
    return info.state.subjects or {}


async def oldest(connection: Connection, subject: str) -> datetime | None:
    """When the oldest message on *subject* was stored. replay.ReplayFailed."""
    name = topology.EXECUTE.name
    request = json.dumps({"seq": 1, "next_by_subj": subject}).encode()
    try:
        answer = await connection.client.request(
            f"$JS.API.DIRECT.GET.{name}", request, timeout=ANSWER_S
        )
    except (nats.errors.Error, TimeoutError) as error:
        raise replay.ReplayFailed(f"{name}: no answer from the broker") from error
    stored = (answer.headers or {}).get("Nats-Time-Stamp")
    return datetime.fromisoformat(stored) if stored else None
