"""The frames between host and cell, on the host's side: typed, and nothing believed."""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from loopai.sandbox import outcome
from streams import messages

HEADER: Final = struct.Struct("<IQ")
"""Bytes of payload, nonce of the batch. The same as in `inside/wire.py`, as is all of this."""
PAGE: Final = struct.Struct("<Qqd")
"""The progress page: nonce of the batch, index of its running item, its start (monotonic, s)."""

_LINE_MAX: Final = 2**31

LOAD: Final = 0
RUN: Final = 1
REST: Final = 2
"""Only to executors that are no forks; `javascript/frames.js` has it too."""

KINDS: Final[tuple[outcome.OutcomeKind, ...]] = (
    "success",
    "error",
    "timeout",
    "out_of_memory",
    "output_too_large",
    "invalid_result",
)
"""What an executor may say of a call, by its number on the wire."""


class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What an executor says of one call."""

    status: int
    elapsed_us: int
    output: bytes = b""
    error_type: str = ""
    message: str = ""
    stdout: str = ""
    line: int = 0
    """0: not known."""
    traceback: str = ""


class TamperError(Exception):
    """The executor sent what our code in it never sends: the program has taken it over."""


_encoder = msgspec.msgpack.Encoder()
_replies = msgspec.msgpack.Decoder(list[Reply])


def encode_load(nonce: int, code: bytes, seconds: float, language: messages.Language) -> bytes:
    return _frame(nonce, _encoder.encode((LOAD, code, float(seconds), language)))


def encode_run(nonce: int, inputs: Sequence[bytes], seconds: Sequence[float]) -> bytes:
    return _frame(nonce, _encoder.encode((RUN, inputs, [float(value) for value in seconds])))


def encode_rest(nonce: int) -> bytes:
    return _frame(nonce, _encoder.encode((REST,)))


def _frame(nonce: int, payload: bytes) -> bytes:
    return HEADER.pack(len(payload), nonce) + payload


def decode(payload: memoryview, *, text_bytes_max: int) -> list[Reply]:
    """Decode the results of a frame; their number is the caller's to check.

    *text_bytes_max*: of all that is said beside each result. A character beyond ASCII may make the
    host hold four bytes for each of them.
    """
    try:
        replies = _replies.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TamperError(f"a frame that cannot be decoded: {error}") from error
    for reply in replies:
        if not 0 <= reply.status < len(KINDS) or reply.elapsed_us < 0:
            raise TamperError("a result with a status that does not exist")
        if not 0 <= reply.line < _LINE_MAX:
            raise TamperError("a result with a line that no program has")
        said = (reply.error_type, reply.message, reply.stdout, reply.traceback)
        if sum(map(len, said)) > text_bytes_max:
            raise TamperError("a result with more words than are allowed")
    return replies
