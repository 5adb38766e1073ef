"""Schemas of Structs, with what msgspec leaves out of them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args

import msgspec


def components(types: list[Any], template: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of each type its schema, and all Structs in them by name; times say that they are times."""
    schemas, found = msgspec.json.schema_components(types, ref_template=template)
    for struct in _structs(types):
        properties = found[struct.__name__]["properties"]
        for field in msgspec.structs.fields(struct):
            if field.type is datetime or datetime in get_args(field.type):
                _date(properties[field.encode_name])
    for schema in found.values():
        for each in schema.get("properties", {}).values():
            _anchor(each)
    return schemas, found


def _anchor(schema: dict[str, Any]) -> None:
    """Spell the ends of a pattern as JSON Schema does, which has no others."""
    for each in schema.get("anyOf", [schema]):
        if "pattern" in each:
            each["pattern"] = each["pattern"].replace(r"\A", "^").replace(r"\Z", "$")


def require_defaults(found: dict[str, Any], *, except_in: Iterable[Any]) -> None:
    """Have answers promise what they always have; in requests it may be left out."""
    asked = _names(found, list(except_in))
    for name, schema in found.items():
        if name in asked or "properties" not in schema:
            continue
        always = {each for each, value in schema["properties"].items() if "default" in value}
        required = {*schema.get("required", ()), *always}
        schema["required"] = [each for each in schema["properties"] if each in required]


def _structs(types: Iterable[Any]) -> set[type[msgspec.Struct]]:
    """Every Struct in *types*, however deep."""
    pending: list[object] = list(msgspec.inspect.multi_type_info(types))
    found: set[type[msgspec.Struct]] = set()
    while pending:
        each = pending.pop()
        if isinstance(each, msgspec.inspect.StructType):
            if each.cls in found:
                continue
            found.add(each.cls)
            pending += [field.type for field in each.fields]
        elif isinstance(each, msgspec.inspect.UnionType):
            pending += each.types
        elif isinstance(each, msgspec.inspect.CollectionType):
            pending.append(each.item_type)
        elif isinstance(each, msgspec.inspect.DictType):
            pending.append(each.value_type)
    return found


def _date(schema: dict[str, Any]) -> None:
    for each in schema.get("anyOf", [schema]):
        if each.get("type") == "string":
            each["format"] = "date-time"


def _names(found: dict[str, Any], roots: list[Any]) -> set[str]:
    """The Structs that *roots* refer to, however deep."""
    pending, names = roots, set[str]()
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            name = str(each.get("$ref", "")).rpartition("/")[2]
            if name in found and name not in names:
                names.add(name)
                pending.append(found[name])
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
    return names
