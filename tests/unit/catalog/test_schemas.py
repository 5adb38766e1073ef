import socket

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from loopai import domain
from loopai.catalog import schemas

NOT_SCHEMAS = {
    "no JSON": b"{",
    "empty": b"",
    "a number": b"5",
    "a list": b"[]",
    "a string": b'"object"',
    "an unknown type": b'{"type": "strnig"}',
    "a keyword of a wrong type": b'{"required": "name"}',
    "a broken pattern": b'{"pattern": "("}',
    "a pattern that looks around": b'{"pattern": "^(?=a)b"}',
    "a pattern that refers back": b'{"pattern": "(a)\\\\1"}',
    "a pattern that grows": b'{"pattern": "(((a{1,100}){1,100}){1,100}){1,100}"}',
    "a dangling reference": b'{"$ref": "#/$defs/none"}',
    "an unknown dialect": b'{"$schema": "https://example.com/mine"}',
    "too many patterns": msgspec.json.encode(
        {"properties": {f"a{n}": {"pattern": r"^\p{L}{1,30}$"} for n in range(101)}}
    ),
    "too large": b'{"title": "' + b"x" * schemas.SCHEMA_BYTES_MAX + b'"}',
    "nested for ever": b'{"not":' * 100_000,
    "nested too deep": b'{"not":' * 900 + b"{}" + b"}" * 900,
}
REMOTE = [
    "http://127.0.0.1:{port}/schema",
    "https://127.0.0.1:{port}/schema",
    "file:///etc/passwd",
    "other.json",
    "//127.0.0.1:{port}/schema",
]


@pytest.mark.parametrize("text", NOT_SCHEMAS.values(), ids=NOT_SCHEMAS)
def test_what_is_no_schema_is_refused_in_one_short_line(text):
    """A schema that cannot be used is refused when it is given, with a reason one can show."""
    with pytest.raises(schemas.InvalidSchema) as caught:
        schemas.compiled(text)
    assert 0 < len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", REMOTE)
@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_references_to_elsewhere_are_refused_without_a_connection(template, keyword):
    """A schema makes the server fetch nothing, from the network or from its own disk."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        uri = template.format(port=listener.getsockname()[1])
        with pytest.raises(schemas.InvalidSchema):
            schemas.compiled(msgspec.json.encode({keyword: uri}))
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"$dynamicAnchor": "x", "$dynamicRef": "#x"},
        {"not": {"$ref": "#"}},
    ],
)
def test_schemas_that_refer_to_themselves_end(schema):
    """A circle of references neither hangs nor takes the process down."""
    try:
        schemas.compiled(msgspec.json.encode(schema)).check(b"1")
    except schemas.Invalid as invalid:
        assert invalid.errors  # noqa: PT017 (either verdict will do)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a+)+$", "a" * 100_000 + "b"),
        ("(x+x+)+y", "x" * 100_000),
        ("^(a|aa)+$", "a" * 90_000 + "b"),
    ],
)
def test_patterns_take_linear_time(pattern, text):
    """Patterns that make backtracking engines run for years are decided at once."""
    schema = schemas.compiled(msgspec.json.encode({"items": {"pattern": pattern}}))
    with pytest.raises(schemas.Invalid):
        schema.check(msgspec.json.encode([text] * 10))


def test_many_alternatives_do_not_make_a_long_answer():
    """A thousand alternatives times a hundred wrong values are refused by the first of them."""
    schema = {"items": {"anyOf": [{"const": number} for number in range(3_000)]}}
    compiled = schemas.compiled(msgspec.json.encode(schema))
    with pytest.raises(schemas.Invalid) as caught:
        compiled.check(msgspec.json.encode([1, *["x"] * 100]))
    assert [each.path for each in caught.value.errors] == ["/1"]


def test_many_wrong_values_do_not_make_a_stall():
    """Of 200,000 values of a wrong type the first is told, in the time it takes to read them."""
    encoded = msgspec.json.encode(["x"] * 200_000)
    with pytest.raises(schemas.Invalid) as caught:
        schemas.compiled(b'{"items": {"type": "number"}}').check(encoded)
    assert [each.path for each in caught.value.errors] == ["/0"]


@pytest.mark.parametrize("depth", [domain.DEPTH_MAX - 1, domain.DEPTH_MAX, domain.DEPTH_MAX + 1])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_limited(depth, opening, closing):
    """64 levels are fine, the 65th is refused, empty or not."""
    inside = b"[]" if opening == b"[" else b"{}"
    encoded = opening * (depth - 1) + inside + closing * (depth - 1)
    if depth <= domain.DEPTH_MAX:
        schemas.compiled(b"{}").check(encoded)
    else:
        with pytest.raises(schemas.Invalid, match="nested deeper than 64"):
            schemas.compiled(b"true").check(encoded)


def test_every_violation_has_its_json_pointer():
    """Paths start where the caller says, and escape what RFC 6901 escapes."""
    schema = schemas.compiled(b'{"additionalProperties": {"items": {"type": "integer"}}}')
    with pytest.raises(schemas.Invalid) as caught:
        schema.check(b'{"a/b": [1, "x"], "~": [2.5]}', "/items/7/input")
    assert [each.path for each in caught.value.errors] == [
        "/items/7/input/a~1b/1",
        "/items/7/input/~0/0",
    ]
    assert str(caught.value).startswith("/items/7/input/a~1b/1: ")


def test_long_values_make_short_messages():
    """A megabyte that does not match is not sent back."""
    with pytest.raises(schemas.Invalid) as caught:
        schemas.compiled(b'{"maxLength": 1}').check(msgspec.json.encode("x" * 1_000_000))
    assert len(str(caught.value)) < 500


def test_formats_are_asserted():
    """`format` is a promise that callers rely on, not a remark."""
    with pytest.raises(schemas.Invalid):
        schemas.compiled(b'{"format": "date"}').check(b'"yesterday"')


def test_a_schema_is_compiled_once():
    """Equal texts share a validator: the hot path compiles nothing."""
    assert schemas.compiled(b'{"type": "null"}') is schemas.compiled(b'{"type": "null"}')


@hypothesis.given(st.binary(max_size=50))
def test_any_bytes_are_a_value_or_invalid(encoded):
    """Bytes of a stranger on the bus give a verdict, never another exception."""
    schema = schemas.compiled(b'{"type": "array"}')
    try:
        assert isinstance(schema.check(encoded), list)
    except schemas.Invalid as invalid:
        assert invalid.errors[0].message  # noqa: PT017 (either verdict will do)
