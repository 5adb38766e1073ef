import json

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from loopai import errors
from loopai.ingress import artifacts, batch, bodies, execute, generate, keys, tasks

DECODERS = [execute._execute, execute._execute_task, batch._decoder, tasks._create, tasks._patch]
FIELDS = st.sampled_from(
    ["name", "input", "Input", "items", "taskId", "task_id", "examples", "version", "timeoutMs"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=8,
)
BODIES = (
    st.binary(max_size=60)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(FIELDS, VALUES, max_size=4).map(lambda fields: json.dumps(fields).encode())
)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(BODIES, st.sampled_from(DECODERS), st.binary(max_size=3), st.integers(0, 60))
def test_decoding_gives_a_value_or_a_problem(body, decoder, noise, place):
    """No bytes make the decoder raise anything but a problem of 400 or 422."""
    damaged = body[:place] + noise + body[place:]
    for each in (body, damaged):
        try:
            bodies.decode(each, decoder)
        except errors.ApiError as error:
            assert error.code in ("MALFORMED_JSON", "INVALID_REQUEST")  # noqa: PT017 (or none)


def test_places_are_json_pointers():
    """What is wrong in the third item is said to be there."""
    body = b'{"task_id": "t", "items": [{"input": 1}, {"input": 2}, {"input": 3, "id": 4}]}'
    with pytest.raises(errors.ApiError) as caught:
        bodies.decode(body, batch._decoder)
    assert [each.path for each in caught.value.errors] == ["/items/2/id"]


def test_places_in_camel_case_bodies_are_found_too():
    """The second reading, in snake_case, is the one that tells the mistake."""
    with pytest.raises(errors.ApiError) as caught:
        bodies.decode(
            b'{"taskId": "t", "items": [{"input": 1, "forceValidation": 3}]}', batch._decoder
        )
    assert [each.path for each in caught.value.errors] == ["/items/0/force_validation"]


def test_names_inside_inputs_are_left_alone():
    """Only our own keys are renamed: an input's keys are the program's business."""
    body = bodies.decode(b'{"taskId": "t", "items": [{"input": {"camelCase": 1}}]}', batch._decoder)
    assert body.task_id == "t"
    assert msgspec.json.decode(body.items[0].input) == {"camelCase": 1}


@pytest.mark.parametrize("text", ["", "abc", "-1", "nan", "inf", "-inf", "301", "1e9", "9" * 5000])
def test_seconds_outside_the_range_are_refused(text):
    """A wait that is no number of seconds is a 400, whatever Python's float takes it for."""
    with pytest.raises(errors.ApiError) as caught:
        bodies.seconds(text, "wait", 300.0)
    assert caught.value.code == "INVALID_QUERY"
    assert len(caught.value.detail) < 200


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0.0), ("0.5", 0.5), ("300", 300.0), (None, None)]
)
def test_seconds_within_the_range_are_read(text, value):
    """Fractions are fine, and absent is absent."""
    assert bodies.seconds(text, "wait", 300.0) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b"[" * 10_000 + b"]" * 10_000, "nested deeper than 64"),
        (b'{"name": "\xff"}', "text that is not UTF-8"),
        (b'{"name": "\\ud800"}', "it ends too early, or has half a surrogate pair"),
    ],
    ids=["nothing", "depth", "encoding", "surrogate"],
)
def test_why_it_is_no_json_is_said_in_words(body, reason):
    """Not in those of the decoder, which are about its own stack and buffers."""
    with pytest.raises(errors.ApiError) as caught:
        bodies.decode(body, msgspec.json.Decoder())
    assert caught.value.detail == f"the body is not JSON: {reason}"


@pytest.mark.parametrize(
    ("body", "decoder", "words"),
    [
        (b'{"code": "1", "language": "ruby"}', artifacts._upload, "javascript, python, typescript"),
        (
            b'{"name": "a", "scopes": ["execute", "root"]}',
            keys._create,
            "admin, author, execute, observe, operate",
        ),
        (b'{"engine": "magic"}', generate._decoder, "examples"),
    ],
    ids=["a field", "an item", "one word"],
)
def test_a_word_that_is_none_of_a_few_is_told_them(body, decoder, words):
    """Who mistypes one need not look for the page that lists them."""
    with pytest.raises(errors.ApiError) as caught:
        bodies.decode(body, decoder)
    assert caught.value.detail.endswith(f"; expected {words}")
