"""One codec per message type: msgpack for what flows, JSON for what rests (ADR 0005)."""

from typing import Final, Generic, TypeVar

import msgspec

from streams import messages, subjects

M = TypeVar("M", bound=messages.Message)

JSON_CONTENT_TYPE: Final = "application/json"


class Undecodable(ValueError):  # noqa: N818 (it says what the message is)
    """The bytes are not a message of the type expected; the text names the field."""


class Codec(Generic[M]):
    """Turns one type of message into bytes and back. Decoding raises Undecodable."""

    def __init__(self, kind: type[M], *, rests: bool) -> None:
        self._encoder: msgspec.json.Encoder | msgspec.msgpack.Encoder
        self._decoder: msgspec.json.Decoder[M] | msgspec.msgpack.Decoder[M]
        if rests:
            self._encoder, self._decoder = msgspec.json.Encoder(), msgspec.json.Decoder(kind)
        else:
            self._encoder, self._decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(kind)
        self.kind = kind
        self.encode = self._encoder.encode

    def decode(self, payload: bytes) -> M:
        try:
            return self._decoder.decode(payload)
        # msgspec lets UnicodeDecodeError and RecursionError of hostile bytes through.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Undecodable(f"{self.kind.__name__}: {error}") from error


EXECUTE: Final = Codec(messages.ExecuteBatch, rests=False)
RECORDS: Final = Codec(messages.RecordBatch, rests=False)
ADMIT_REQUEST: Final = Codec(messages.AdmitRequest, rests=False)
ADMIT_ANSWER: Final = Codec(messages.AdmitAnswer, rests=False)
GENERATE: Final = Codec(messages.GenerateRequest, rests=False)
EVENT: Final = Codec(messages.Event, rests=False)
WEBHOOK_DELIVERY: Final = Codec(messages.WebhookDelivery, rests=False)
WEBHOOK_ATTEMPT: Final = Codec(messages.WebhookAttempt, rests=False)
DEAD: Final = Codec(messages.DeadLetter, rests=False)

TASK: Final = Codec(messages.TaskSpecification, rests=True)
TASK_HEAD: Final = Codec(messages.TaskHead, rests=True)
ARTIFACT: Final = Codec(messages.ProgramArtifact, rests=True)
ROLLOUT: Final = Codec(messages.Rollout, rests=True)
OPERATION: Final = Codec(messages.Operation, rests=True)
CANCELLATION: Final = Codec(messages.Cancellation, rests=True)
KEY: Final = Codec(messages.ApiKey, rests=True)
IDEMPOTENCY: Final = Codec(messages.IdempotencyClaim, rests=True)
SITE: Final = Codec(messages.SiteState, rests=True)
WEBHOOK: Final = Codec(messages.Webhook, rests=True)
WORKER: Final = Codec(messages.WorkerPresence, rests=True)

EXECUTE_REQUEST: Final = Codec(messages.ExecuteRequest, rests=True)


def is_json(headers: dict[str, str] | None) -> bool:
    """Whether *headers* say that the payload is JSON rather than msgpack."""
    return _is_json((headers or {}).get(subjects.CONTENT_TYPE, ""))


def answers_json(headers: dict[str, str]) -> bool:
    """Whether *headers* ask for an answer in JSON: as it came in, or as a header says."""
    return _is_json(headers.get(subjects.REPLY_TYPE) or headers.get(subjects.CONTENT_TYPE, ""))


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == JSON_CONTENT_TYPE
