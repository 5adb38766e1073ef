"""Where an answer leads: what takes the id in it (OpenAPI's links)."""

from typing import Any, Final

from loopai.ingress.describe.operation import Operation

_ID: Final = "$response.body#/id"
MADE: Final[dict[tuple[str, int], dict[str, str]]] = {
    ("createTask", 201): {"task": _ID},
    ("generateProgram", 202): {"operation": _ID},
    ("uploadProgram", 201): {
        "task": "$response.body#/task_id",
        "version": "$response.body#/version",
    },
    ("execute", 200): {"execution": _ID},
    ("execute", 202): {"execution": _ID},
    ("executeTask", 200): {"execution": _ID},
    ("executeTask", 202): {"execution": _ID},
    ("createWebhook", 201): {"webhook": _ID},
    ("createKey", 201): {"key": _ID},
}
"""By operation and status: where in the answer the parts of a path are."""


def links(of: Operation, status: int, operations: tuple[Operation, ...]) -> dict[str, Any]:
    """Those of the answer with *status* of *of*, by name, to all whose path it can fill."""
    made = MADE.get((of.id, status), {})
    return {
        each.id: {"operationId": each.id, "parameters": made}
        for each in operations
        if made and _names(each.path) == set(made)
    }


def _names(path: str) -> set[str]:
    return {part[1:-1] for part in path.split("/") if part.startswith("{")}
