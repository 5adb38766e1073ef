"""What travels with a program that is to be checked."""

import msgspec

from loopai.ingress import admit
from loopai.sandbox import admission
from streams.messages import Example

OUTPUT = msgspec.Raw(b"1")


def _examples(*sizes: int) -> tuple[Example, ...]:
    return tuple(Example(input=msgspec.Raw(b"1" * size), output=OUTPUT) for size in sizes)


def test_inputs_that_do_not_fit_into_a_message_are_left_out() -> None:
    """At the limit they travel; what comes after it stays, whatever its size."""
    half = admit.INPUTS_BYTES_MAX // 2
    assert len(list(admit._inputs(_examples(half, half)))) == 2
    assert len(list(admit._inputs(_examples(half, half + 1, 1)))) == 1
    assert list(admit._inputs(_examples(2 * half + 1))) == []


def test_no_more_inputs_travel_than_are_tried() -> None:
    """A task may have thousands of examples."""
    count = admission.INPUTS_MAX
    assert len(list(admit._inputs(_examples(*[1] * (count + 1))))) == count
