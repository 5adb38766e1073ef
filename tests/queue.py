"""The consumers of the queue that a task's executions wait in."""

from streams import subjects, topology
from streams.messages import Lane

UPPER = ("default", "upper")
"""Tenant and task of most tests."""


def python(lane: Lane = "interactive", owner: tuple[str, str] = UPPER) -> topology.Consumer:
    """What executors take the executions of *owner* with."""
    return topology.executor(lane, *subjects.queue(*owner))


def deno(lane: Lane = "interactive", owner: tuple[str, str] = UPPER) -> topology.Consumer:
    """What executors with Deno take those with that were routed to them."""
    return topology.executor_routed("deno", lane, subjects.queue(*owner)[0])
