"""JSON Schemas compiled once, and what is wrong with a value in words and paths."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec

from loopai import domain, errors

VALIDATORS_MAX: Final = 256
SCHEMA_BYTES_MAX: Final = 256 * 1024
PATTERNS_MAX: Final = 100
"""In one schema: a pattern of a few bytes may be a megabyte once it is compiled."""
DETAIL_MAX: Final = 50_000
"""Alternatives in the schema times bytes of the value up to which every violation is told.

The library puts each into words before the first is seen: 3,000 alternatives times a list of 100
took 3.5 s, and a list of 200,000 values of a wrong type 2.4 s.
"""
ERRORS_MAX: Final = 10
MESSAGE_CHARACTERS_MAX: Final = 300
PATTERN_BYTES_MAX: Final = 1024 * 1024
"""Size of one compiled `pattern`."""
# Matching takes time linear in the text, so no schema can stall a process. The price is what JSON
# Schema advises against as well (draft 2020-12, section 6.4): look-around and back-references.
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX)

_decoder = msgspec.json.Decoder()


class InvalidSchema(ValueError):  # noqa: N818 (it says what the schema is)
    """Not a JSON Schema that we can use."""


class Invalid(ValueError):  # noqa: N818 (it says what the value is)
    """The value does not match; `errors` say where and why."""

    def __init__(self, found: tuple[errors.FieldError, ...]) -> None:
        first = found[0]
        super().__init__(f"{first.path or 'the value'}: {first.message}")
        self.errors = found


class Schema:
    """A compiled JSON Schema. Check encoded values with `check`."""

    def __init__(self, text: bytes) -> None:
        if len(text) > SCHEMA_BYTES_MAX:
            raise InvalidSchema(f"a schema has at most {SCHEMA_BYTES_MAX} bytes, not {len(text)}")
        try:
            document = msgspec.json.decode(text)
            if not isinstance(document, dict | bool):
                raise InvalidSchema("a schema is an object")
            patterns, self._alternatives = _costs(document)
            if patterns > PATTERNS_MAX:
                raise InvalidSchema(f"a schema has at most {PATTERNS_MAX} patterns, not {patterns}")
            self._validator = jsonschema_rs.validator_for(
                document,
                retriever=_refuse_remote,
                validate_formats=True,
                pattern_options=_PATTERNS,
            )
        except (ValueError, RecursionError, jsonschema_rs.ReferencingError) as error:
            if isinstance(error, InvalidSchema):
                raise
            reason = str(error).splitlines()[0][:MESSAGE_CHARACTERS_MAX]
            if reason.endswith('is not a "regex"'):
                reason += " that we take: no look-around, no back-references, no large repetitions"
            raise InvalidSchema(reason) from error
        self.takes_anything = document in ({}, True)
        """Whether every value of the domain matches."""

    def check(self, encoded: bytes, path: str = "") -> Any:  # any JSON value
        """The decoded value. Invalid when it is not JSON, outside the domain, or no match.

        *path* is the JSON Pointer of the value in what the caller was given.
        """
        try:
            value = _decoder.decode(encoded)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(
                (errors.FieldError(path, f"not JSON: {domain.unreadable(error)}"),)
            ) from error
        violation = domain.check(value)
        if violation is not None:
            raise Invalid((errors.FieldError(path + violation.path, violation.reason),))
        if not self.takes_anything and not self._validator.is_valid(value):
            found = islice(self._violations(value, len(encoded)), ERRORS_MAX)
            raise Invalid(tuple(_field_error(each, path) for each in found))
        return value

    def _violations(self, value: object, size: int) -> Iterator[jsonschema_rs.ValidationError]:
        """All violations, or only the first where telling them all could take seconds."""
        if (1 + self._alternatives) * size <= DETAIL_MAX:
            yield from self._validator.iter_errors(value)
            return
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            yield error


@lru_cache(maxsize=VALIDATORS_MAX)
def compiled(text: bytes) -> Schema:
    """The Schema of *text*, compiled at its first use. InvalidSchema when it cannot be."""
    return Schema(text)


def _costs(document: object) -> tuple[int, int]:
    """How many patterns and how many alternatives a schema has. A bound: names may look alike."""
    patterns = alternatives = 0
    pending = [document]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            patterns += "pattern" in each
            for name in ("anyOf", "oneOf", "patternProperties"):
                inside = each.get(name)
                if name == "patternProperties" and isinstance(inside, dict):
                    patterns += len(inside)
                elif isinstance(inside, list):
                    alternatives += len(inside)
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
    return patterns, alternatives


def _field_error(error: jsonschema_rs.ValidationError, path: str) -> errors.FieldError:
    pointer = "".join(f"/{_escape(str(each))}" for each in error.instance_path)
    return errors.FieldError(path + pointer, error.message[:MESSAGE_CHARACTERS_MAX])


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _refuse_remote(uri: str) -> Any:  # the type that the library asks for
    raise InvalidSchema(f"$ref to {uri}: only references inside the schema are followed")
