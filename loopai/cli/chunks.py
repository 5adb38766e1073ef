"""Batches cut to what one request may hold."""

from collections.abc import Iterator, Sequence

import msgspec


def bodies(
    task: str, inputs: Sequence[msgspec.Raw], *, items_max: int, bytes_max: int
) -> Iterator[bytes]:
    """Bodies of `POST /batch/execute` for *inputs* in order; ids are their positions, from 0.

    Each holds at least one item, so an input that is too large by itself is the server's to refuse.
    """
    head = b'{"task_id":' + msgspec.json.encode(task) + b',"items":['
    items: list[bytes] = []
    size = len(head)
    for at, each in enumerate(inputs):
        item = b'{"id":"%d","input":%b}' % (at, bytes(each))
        # One more for the comma, and two for the brackets that close the body.
        if items and (len(items) == items_max or size + len(item) + 3 > bytes_max):
            yield head + b",".join(items) + b"]}"
            items, size = [], len(head)
        items.append(item)
        size += len(item) + 1
    if items:
        yield head + b",".join(items) + b"]}"
