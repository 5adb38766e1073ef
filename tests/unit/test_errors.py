import pytest

from loopai import errors
from loopai.ingress import problems


@pytest.mark.parametrize("code", errors.CODES)
def test_every_code_has_a_status_and_a_sentence(code):
    """The table is what clients program against: an HTTP error and one sentence each."""
    status, title = errors.CODES[code]
    assert 400 <= status < 600
    assert title[0].isupper()
    assert title.endswith(".")
    assert code == code.upper()


def test_an_error_carries_the_status_of_its_code():
    """Handlers choose a code; the status follows."""
    error = errors.ApiError("DEADLINE_PASSED", "too late", execution_id="x")
    assert error.status == 504
    assert error.extra == {"execution_id": "x"}


def test_a_code_outside_the_table_cannot_be_raised():
    """A misspelt code fails where it is written, not at a client."""
    with pytest.raises(KeyError):
        errors.ApiError("NO_SUCH_CODE", "…")


def test_the_unforeseen_tells_nothing_of_itself():
    """What an exception says may hold secrets: the caller gets a trace id to ask about."""
    translated = problems.translate(RuntimeError("password=hunter2"))
    assert translated.code == "INTERNAL"
    assert "hunter2" not in translated.detail
