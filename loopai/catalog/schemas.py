"""JSON Schemas compiled once, and what is wrong with a value in words and paths."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec

from loopai import errors
from loopai.sandbox import domain

VALIDATORS_MAX: Final = 1024
ERRORS_MAX: Final = 10
MESSAGE_CHARACTERS_MAX: Final = 300
BACKTRACKS_MAX: Final = 100_000
"""Steps that one `pattern` may take on one string: a schema must not be able to stall a process."""

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
        try:
            document = msgspec.json.decode(text)
            if not isinstance(document, dict | bool):
                raise InvalidSchema("a schema is an object")
            self._validator = jsonschema_rs.validator_for(
                document,
                retriever=_refuse_remote,
                validate_formats=True,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKS_MAX),
            )
        except (ValueError, RecursionError, jsonschema_rs.ReferencingError) as error:
            if isinstance(error, InvalidSchema):
                raise
            reason = str(error).splitlines()[0]
            raise InvalidSchema(reason[:MESSAGE_CHARACTERS_MAX]) from error
        self._anything = document in ({}, True)

    def check(self, encoded: bytes, path: str = "") -> Any:  # any JSON value
        """The decoded value. Invalid when it is not JSON, outside the domain, or no match.

        *path* is the JSON Pointer of the value in what the caller was given.
        """
        try:
            value = _decoder.decode(encoded)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid((errors.FieldError(path, f"not JSON: {error}"),)) from error
        reason = domain.check(value)
        if reason is not None:
            raise Invalid((errors.FieldError(path, reason),))
        if not self._anything and not self._validator.is_valid(value):
            raise Invalid(tuple(islice(self._errors(value, path), ERRORS_MAX)))
        return value

    def _errors(self, value: object, path: str) -> Iterator[errors.FieldError]:
        for error in self._validator.iter_errors(value):
            pointer = "".join(f"/{_escape(str(each))}" for each in error.instance_path)
            yield errors.FieldError(path + pointer, error.message[:MESSAGE_CHARACTERS_MAX])


@lru_cache(maxsize=VALIDATORS_MAX)
def compiled(text: bytes) -> Schema:
    """The Schema of *text*, compiled at its first use. InvalidSchema when it cannot be."""
    return Schema(text)


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _refuse_remote(uri: str) -> Any:  # the type that the library asks for
    raise InvalidSchema(f"$ref to {uri}: only references inside the schema are followed")
