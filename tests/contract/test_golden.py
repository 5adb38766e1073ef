"""Messages in flight and at rest outlive the code that wrote them: golden files prove it.

A file, once released, is never changed or removed. A new message or field adds a new file:
`python -m tests.contract.write_golden` writes those that are missing.
"""

from pathlib import Path

import msgspec
import pytest

from streams import messages
from tests.contract.samples import FORMER, GOLDEN, SAMPLES, golden


@pytest.mark.parametrize("name", SAMPLES)
def test_message_of_today_is_written_as_its_golden_file(name: str) -> None:
    """What we send is, byte for byte, what other services were promised."""
    codec, sample = SAMPLES[name]

    assert codec.encode(sample) == golden(name).read_bytes()


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*")), ids=lambda p: f"{p.parent.name}-{p.name}"
)
def test_every_golden_file_is_still_read(path: Path) -> None:
    """What was written by any release is read by this one, with nothing lost."""
    codec, sample = SAMPLES[path.stem]
    former = FORMER.get(str(path.relative_to(GOLDEN)))

    assert codec.decode(path.read_bytes()) == (former or sample)


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_of_the_future_are_passed_over(name: str) -> None:
    """A field that a newer release adds does not stop an older one; direct requests are strict."""
    codec, sample = SAMPLES[name]
    rests = codec.encode(sample)[:1] == b"{"
    module = msgspec.json if rests else msgspec.msgpack
    fields = module.decode(codec.encode(sample)) | {"of_the_future": 1}

    if name == "execute_request":
        with pytest.raises(ValueError, match="of_the_future"):
            codec.decode(module.encode(fields))
    else:
        assert codec.decode(module.encode(fields)) == sample


def test_every_message_type_has_a_golden_file() -> None:
    """Nothing travels or rests without a promise about its form."""
    held: set[type] = set()

    def note(value: object) -> None:
        if isinstance(value, messages.Message):
            held.add(type(value))
            for field in value.__struct_fields__:
                note(getattr(value, field))
        elif isinstance(value, tuple):
            for each in value:
                note(each)

    for _, sample in SAMPLES.values():
        note(sample)

    assert held == set(messages.Message.__subclasses__())


def test_every_field_of_a_sample_differs_from_its_default() -> None:
    """A field left at its default would not show in the golden file that it was renamed."""

    def check(value: object) -> None:
        if isinstance(value, messages.Message):
            for field in msgspec.structs.fields(value):
                assert getattr(value, field.name) != field.default or field.name == "kind", field
                check(getattr(value, field.name))
        elif isinstance(value, tuple):
            for each in value:
                check(each)

    for _, sample in SAMPLES.values():
        check(sample)
