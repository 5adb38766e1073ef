"""Every operation of the API has its command."""

import pytest

from loopai.ingress.describe import document
from tests import commands

OPERATIONS = [each.id for each in document.OPERATIONS]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_a_command(operation: str) -> None:
    """A route that is new needs one, or a reason to have none."""
    assert (operation in commands.COMMANDS) != (operation in commands.WITHOUT)


def test_no_command_is_named_for_what_is_not_there() -> None:
    """What was taken away leaves the table; and every command of the table exists."""
    assert {*commands.COMMANDS, *commands.WITHOUT} == set(OPERATIONS)
    assert set(commands.COMMANDS.values()) <= set(commands.every_command())


@pytest.mark.parametrize("words", [*commands.every_command()])
def test_every_command_says_what_it_does_with_an_example(words: str) -> None:
    """As `--help` and the reference show it."""
    help_ = " ".join((commands.every_command()[words].help or "").split())
    assert f"Example: `loopai {words}" in help_ or f" loopai {words}`" in help_


@pytest.mark.parametrize("words", [*commands.every_command()])
def test_every_option_says_what_it_is(words: str) -> None:
    """None is left without words."""
    for each in commands.every_command()[words].params:
        assert getattr(each, "help", None), each.name
