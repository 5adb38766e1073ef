import ast

import hypothesis
import pytest
from hypothesis import strategies as st

from loopai.synthesis.examples import literals

TEXT = st.text() | st.text(alphabet="\"'\\\n\r\t{}#\0\x0c\u2028\u202e\ud800")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "inf" not in repr(value))


@hypothesis.given(JSON)
def test_a_value_reads_back_as_itself(value):
    """Whatever the value holds, its literal is that value, in printable characters."""
    literal = literals.value(value)
    assert ast.literal_eval(literal) == value
    assert literal.isprintable()


@hypothesis.given(TEXT)
def test_a_docstring_holds_its_text_and_ends_where_it_should(text):
    """Quotes, backslashes and control characters cannot end it, or start code."""
    code = literals.docstring("Task: " + text) + "\nX = 1\n"
    tree = ast.parse(code)
    assert len(tree.body) == 2
    assert ast.literal_eval(tree.body[0].value) == "Task: " + text + "\n"


@hypothesis.given(TEXT)
def test_a_comment_stays_on_its_line(text):
    """A line break in a name would turn the rest into code."""
    code = f"X = 1  # {literals.comment(text)}\nY = 2\n"
    assert [node.lineno for node in ast.parse(code).body] == [1, 2]
    assert len(code.splitlines()) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_has_no_literal(value):
    """`inf` in a program would be a name that nobody defined."""
    for write in (literals.number, literals.exact):
        with pytest.raises(ValueError, match="no literal"):
            write(value)


def test_weights_are_rounded_and_never_minus_zero():
    """Four digits are what the examples can carry."""
    assert literals.number(0.123456) == "0.1235"
    assert literals.number(-0.0) == "0.0"
    assert literals.number(1234567.0) == "1235000.0"
    assert literals.numbers([1]) == "(1.0,)"
    assert literals.numbers([1, 2.5]) == "(1.0, 2.5)"
