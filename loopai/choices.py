"""The words that a field takes where it takes only some."""

from typing import Any

from msgspec import inspect


def at(wanted: Any, path: str) -> tuple[str, ...]:  # any: a type, as msgspec takes it
    """The words that the value at *path*, a JSON Pointer, of the type *wanted* may be, sorted."""
    found = [inspect.type_info(wanted)]
    for step in path.split("/")[1:]:
        found = [inner for each in _alternatives(found) for inner in _below(each, step)]
    literals = [each for each in _alternatives(found) if isinstance(each, inspect.LiteralType)]
    return tuple(sorted(str(value) for each in literals for value in each.values))


def _alternatives(found: list[inspect.Type]) -> list[inspect.Type]:
    """What unions are of, and the rest as it is."""
    flat: list[inspect.Type] = []
    for each in found:
        inner = each.type if isinstance(each, inspect.Metadata) else each
        flat.extend(inner.types if isinstance(inner, inspect.UnionType) else (inner,))
    return flat


def _below(given: inspect.Type, step: str) -> tuple[inspect.Type, ...]:
    """The types that *given* has at its field or item *step*."""
    if isinstance(given, inspect.StructType):
        return tuple(each.type for each in given.fields if each.encode_name == step)
    if isinstance(given, inspect.CollectionType):
        return (given.item_type,)
    return ()
