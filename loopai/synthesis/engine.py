"""What engines have in common: the way they say that they cannot."""

from loopai import errors


class CannotGenerate(Exception):  # noqa: N818 (it is an expected outcome, not a fault)
    """No program can be made. *code* stands in `errors.CODES`, the message what to do."""

    def __init__(self, code: str, message: str) -> None:
        if code not in errors.CODES:
            raise ValueError(f"unknown error code {code}")
        super().__init__(message)
        self.code = code
