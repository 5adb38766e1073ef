"""Which version answers an execution: the active one, or the canary for its share. Pure."""

import hashlib
from typing import Final

from streams.messages import Rollout

PLACES: Final = 10_000
"""What executions are spread over: a hundredth of a percent each."""
PERCENT_DECIMALS: Final = 2
"""Of a canary's share that count."""


def version(rollout: Rollout, execution_id: str, routing_key: str | None) -> int:
    """The version of *rollout* that answers. LookupError where none is active.

    Of the same *routing_key*, or else of the same id, always the same. A share that grows keeps
    what it had.
    """
    active, canary = rollout.active, rollout.canary
    if active is None:
        raise LookupError(f"no version of {rollout.task_id} is active")
    if canary is None:
        return active
    # Rounded: 1.1 * 100 is more than 110.
    below = round(canary.percent * 100)
    in_canary = place(rollout.task_id, routing_key or execution_id) < below
    return canary.version if in_canary else active


def place(task_id: str, key: str) -> int:
    """Where *key* is among PLACES; in another task it is elsewhere."""
    # Ids have one length, so two pairs never become the same text.
    digest = hashlib.blake2b(f"{task_id}{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PLACES
