"""What the API is made of: a module for each resource, each with its `routes`."""

from typing import Final

from loopai.ingress import (
    artifacts,
    batch,
    deliveries,
    execute,
    executions,
    generate,
    health,
    keys,
    queues,
    rollouts,
    sync,
    tasks,
    webhooks,
)

PREFIX: Final = "/api/v1"
# `execute` comes before `tasks`: `/tasks/execute` must not be read as a task's name.
API: Final = tuple(
    route
    for each in (
        *(execute, tasks, artifacts, rollouts, generate, executions, batch, queues, sync),
        *(keys, webhooks, deliveries),
    )
    for route in each.routes
)
"""Routes below PREFIX."""
OUTSIDE: Final = (*health.routes,)
"""Routes beside it; the documents, which are made of all these, are not among them."""
