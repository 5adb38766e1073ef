"""What became of a call: made of an executor's words, or of how it ended without them. Pure."""

from typing import Final

import msgspec

from loopai import domain
from loopai.sandbox import channel, frames, outcome
from loopai.sandbox import limits as limits_

NEVER_RAN: Final = "cancelled before it ran"

_decoder: Final = msgspec.json.Decoder()


def answer(reply: frames.Reply, wall_ms: float, limits: limits_.Limits) -> outcome.Outcome:
    """What the executor says of a call, checked again: the program may have taken it over."""
    kind = frames.KINDS[reply.status]
    output = None
    # Most say nothing: three calls fewer.
    message = reply.message and _cut(reply.message, limits.message_bytes_max)
    error_type = reply.error_type[:100]
    if kind == "success":
        kind, error_type, message = _checked(reply.output, limits.output_bytes_max)
        output = reply.output if kind == "success" else None
    elif kind != "error":
        error_type = kind
    return outcome.Outcome(
        kind=kind,
        output=output,
        error_type=error_type,
        message=message,
        run_ms=min(reply.elapsed_us / 1000, wall_ms),
        stdout=reply.stdout and _cut(reply.stdout, limits.stdout_bytes_max),
        line=reply.line or None,
        traceback=reply.traceback and _cut(reply.traceback, limits.message_bytes_max),
    )


def blame(run: channel.Run, timeout_ms: float) -> outcome.Outcome:
    """What is said of a call that its executor did not outlive, or was not let to."""
    kind: outcome.OutcomeKind
    if run.end == "timeout":
        kind, message = "timeout", f"killed after {timeout_ms:g} ms"
    elif run.end == "cancelled":
        kind, message = "cancelled", "cancelled while it ran"
    elif run.end == "out_of_memory":
        kind, message = "out_of_memory", "the program ended its process: out of memory"
    elif run.end == "tampered":
        kind, message = "killed", f"the program wrote to the result channel: {run.detail}"
    else:
        kind, message = "killed", f"the program ended its process: {run.detail}"
    return outcome.Outcome(kind=kind, error_type=kind, message=message, run_ms=run.elapsed_ms)


def recalled() -> outcome.Outcome:
    """What is said of a call that was called back before it began."""
    return outcome.Outcome(kind="cancelled", error_type="cancelled", message=NEVER_RAN)


def too_large(bytes_max: int) -> outcome.Outcome:
    """What is said of a call that was not made."""
    message = f"the input exceeds {bytes_max} bytes"
    return outcome.Outcome(kind="error", error_type="InputTooLarge", message=message)


def lost(reason: str) -> outcome.Outcome:
    """Nobody's answer: there was no executor that could have given one."""
    return outcome.Outcome(kind="lost", error_type="lost", message=reason or "the cell broke")


def _checked(output: bytes, bytes_max: int) -> tuple[outcome.OutcomeKind, str, str]:
    """Check again what the executor has checked: the program may have taken it over."""
    if len(output) > bytes_max:
        return "output_too_large", "output_too_large", f"the result exceeds {bytes_max} bytes"
    # One line: a line break between tokens is JSON, and would forge lines of NDJSON answers.
    if b"\n" in output or b"\r" in output:
        return "invalid_result", "invalid_result", "the result is not on one line"
    try:
        violation = domain.check(_decoder.decode(output))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return "invalid_result", "invalid_result", f"not JSON: {error}"
    if violation is not None:
        return "invalid_result", "invalid_result", str(violation)
    return "success", "", ""


def _cut(text: str, bytes_max: int) -> str:
    if 4 * len(text) <= bytes_max:
        return text
    return text.encode()[:bytes_max].decode(errors="ignore")
