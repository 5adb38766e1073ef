"""Ask a worker that has the runtime whether a program may become a version."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import nats.errors

from loopai import errors
from loopai.ingress import services
from loopai.sandbox import admission
from streams import codec, subjects, topology
from streams.messages import AdmitAnswer, AdmitRequest, Example, Isolation, Language

INPUTS_BYTES_MAX: Final = topology.MIB
"""Inputs that travel with the program; more are left out, so that it fits into a message."""
BUSY_S: Final = 0.2
"""How long to wait before another worker is asked."""


async def ask(
    shared: services.Services,
    tenant: str,
    language: Language,
    code: str,
    *,
    isolation: Isolation | None,
    examples: tuple[Example, ...],
    trace_id: str,
) -> AdmitAnswer:
    """What a worker found; its status is `admitted`. INVALID_PROGRAM, RUNTIME_UNAVAILABLE."""
    deadline = time.time() + shared.settings.admit_ms_max / 1000
    request = AdmitRequest(
        tenant=tenant,
        language=language,
        code=code,
        isolation=isolation,
        inputs=tuple(_inputs(examples)),
        deadline_ms=int(deadline * 1000),
        trace_id=trace_id,
    )
    subject = subjects.admit(topology.RUNTIMES[language])
    reason = "they did not answer"
    while (left_s := deadline - time.time()) > BUSY_S:
        try:
            message = await shared.connection.client.request(
                subject, codec.ADMIT_REQUEST.encode(request), timeout=left_s
            )
        except nats.errors.NoRespondersError as error:
            raise _unavailable(f"no worker that runs {language} is there") from error
        except (nats.errors.Error, TimeoutError):
            break
        answer = codec.ADMIT_ANSWER.decode(message.data)
        if answer.status == "admitted":
            return answer
        if answer.status == "refused":
            raise errors.ApiError(
                "INVALID_PROGRAM",
                answer.reason,
                errors=(errors.FieldError("/code", answer.reason),),
                **({} if answer.line is None else {"line": answer.line}),
            )
        reason = answer.reason
        if answer.status == "failed":
            break
        await asyncio.sleep(BUSY_S)
    raise _unavailable(
        f"the workers that run {language} could not check the program in time: {reason}"
    )


def _unavailable(detail: str) -> errors.ApiError:
    return errors.ApiError("RUNTIME_UNAVAILABLE", f"{detail}; nothing was stored")


def _inputs(examples: tuple[Example, ...]) -> Iterator[bytes]:
    """The first inputs of *examples*, as many as a program is tried on and a message holds."""
    size = 0
    for example in examples[: admission.INPUTS_MAX]:
        size += len(example.input)
        if size > INPUTS_BYTES_MAX:
            return
        yield bytes(example.input)
