"""Calls of the API over gRPC as any library makes them, and their errors taken apart."""

from collections.abc import Iterable
from typing import Any

import grpc
import msgspec
from google.rpc import error_details_pb2, status_pb2

from loopai.ingress.rpc import loopai_pb2 as pb
from loopai.ingress.rpc import server

METHODS = {
    "Execute": (pb.ExecuteRequest, pb.Execution),
    "Generate": (pb.GenerateRequest, pb.Operation),
    "Watch": (pb.WatchRequest, pb.Event),
    "ExecuteBatch": (pb.ExecuteBatchRequest, pb.ExecuteBatchResponse),
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    code: str
    detail: str
    metadata: dict[str, str]
    fields: list[tuple[str, str]]
    retry_after_s: int | None


class Caller:
    """One connection; *credentials* are the metadata of each call."""

    def __init__(self, port: int, credentials: dict[str, str] | None = None) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.metadata = tuple((credentials or {}).items())

    async def close(self) -> None:
        await self.channel.close()

    def execute(self, task: str = "upper", value: bytes = b'"a"', **fields: Any) -> Any:
        """The call, to be awaited; `deadline_s` and `metadata` are not of the message."""
        asked = pb.ExecuteRequest(
            task=task,
            input=value,
            **{k: v for k, v in fields.items() if k not in ("deadline_s", "metadata")},
        )
        return self._unary("Execute", asked, **fields)

    def generate(self, task: str, **fields: Any) -> Any:
        return self._unary("Generate", pb.GenerateRequest(task=task, **fields))

    def watch(self, **fields: Any) -> Any:
        path, kinds = f"/{server.SERVICE}/Watch", METHODS["Watch"]
        method = self.channel.unary_stream(path, _encode, kinds[1].FromString)
        return method(pb.WatchRequest(**fields), metadata=self.metadata)

    def batch(self, messages: Any = None) -> Any:
        path, kinds = f"/{server.SERVICE}/ExecuteBatch", METHODS["ExecuteBatch"]
        method = self.channel.stream_stream(path, _encode, kinds[1].FromString)
        return method(messages, metadata=self.metadata)

    def raw(self, method: str, payload: bytes) -> Any:
        """One message of any bytes, to any method: what comes back is a list of bytes."""
        call = self.channel.stream_stream(f"/{server.SERVICE}/{method}")
        return call(iter([payload]), metadata=self.metadata)

    def _unary(self, name: str, asked: Any, **fields: Any) -> Any:
        method = self.channel.unary_unary(
            f"/{server.SERVICE}/{name}", _encode, METHODS[name][1].FromString
        )
        more = tuple(fields.get("metadata", {}).items())
        return method(asked, timeout=fields.get("deadline_s"), metadata=self.metadata + more)


def terms(task: str = "upper", **fields: Any) -> pb.ExecuteBatchRequest:
    return pb.ExecuteBatchRequest(terms=pb.BatchTerms(task=task, **fields))


def items(values: Iterable[bytes], **fields: Any) -> pb.ExecuteBatchRequest:
    found = [pb.BatchItem(input=value, **fields) for value in values]
    return pb.ExecuteBatchRequest(items=pb.BatchItems(items=found))


async def whole(call: Any) -> tuple[list[pb.BatchResult], pb.BatchSummary]:
    """All results of a batch, and the summary, which is the last message."""
    results: list[pb.BatchResult] = []
    summary = None
    async for each in call:
        assert summary is None
        if each.WhichOneof("part") == "summary":
            summary = each.summary
        results.extend(each.results.results)
    assert summary is not None
    return results, summary


async def refusal(call: Any) -> Refusal:
    """Why *call* ended: it has to be refused."""
    code = await call.code()
    metadata = dict(await call.trailing_metadata())
    details = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert details.code == code.value[0]
    assert details.message == await call.details()
    found = {each.type_url.rpartition(".")[2]: each.value for each in details.details}
    info = error_details_pb2.ErrorInfo.FromString(found["ErrorInfo"])
    assert info.domain == "loopai"
    bad = error_details_pb2.BadRequest.FromString(found.get("BadRequest", b""))
    retry = error_details_pb2.RetryInfo.FromString(found.get("RetryInfo", b""))
    return Refusal(
        status=code.name,
        code=info.reason,
        detail=details.message,
        metadata=dict(info.metadata),
        fields=[(each.field, each.description) for each in bad.field_violations],
        retry_after_s=retry.retry_delay.seconds if "RetryInfo" in found else None,
    )


def _encode(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]  # any: of several kinds
