import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loopai.cli import chunks


@given(
    texts=st.lists(st.text(max_size=30), max_size=40),
    items_max=st.integers(1, 10),
    bytes_max=st.integers(120, 300),
)
def test_bodies_hold_every_input_once_in_order_within_the_limits(texts, items_max, bytes_max):
    """Whatever the limits, nothing is lost, doubled or moved, and no body exceeds them."""
    inputs = [msgspec.Raw(msgspec.json.encode(text)) for text in texts]
    bodies = list(chunks.bodies("task", inputs, items_max=items_max, bytes_max=bytes_max))
    decoded = [msgspec.json.decode(body) for body in bodies]
    items = [item for body in decoded for item in body["items"]]
    assert [item["input"] for item in items] == texts
    assert [item["id"] for item in items] == [str(at) for at in range(len(texts))]
    assert all(len(body["items"]) <= items_max for body in decoded)
    assert all(
        len(body) <= bytes_max or len(one["items"]) == 1
        for body, one in zip(bodies, decoded, strict=True)
    )


def test_an_input_over_the_limit_travels_alone():
    """It is the server's to refuse, by its own limit."""
    inputs = [msgspec.Raw(b"1"), msgspec.Raw(b'"' + b"x" * 200 + b'"'), msgspec.Raw(b"2")]
    bodies = list(chunks.bodies("task", inputs, items_max=10, bytes_max=100))
    assert [len(msgspec.json.decode(body)["items"]) for body in bodies] == [1, 1, 1]
