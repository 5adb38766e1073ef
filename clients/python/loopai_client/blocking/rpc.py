"""Asks over gRPC what can be, and tells where HTTP has to."""

import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from loopai_client import errors, loopai_pb2, requests, rpc
from loopai_client.blocking import connecting

SERVICE: Final = "/loopai.v1.Loopai/"
READY_S: Final = 2.0
"""A server that takes longer to accept a connection has no gRPC."""
AWAY_S: Final = 30.0
"""Where there is none, it is looked for again after so long."""
TLS: Final = "https://"
PLAIN: Final = "http://"
_OPTIONS: Final = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
"""Answers of any size, as over HTTP; attempts are counted by the client."""
_DECODE: Final[dict[str, Callable[[bytes], Any]]] = {  # any: messages of several types
    "Execute": loopai_pb2.Execution.FromString,
    "Generate": loopai_pb2.Operation.FromString,
    "ExecuteBatch": loopai_pb2.ExecuteBatchResponse.FromString,
}


class Rpc:
    """One connection to *target*; close it. It is made when something is asked."""

    def __init__(self, target: str, api_key: str | None) -> None:
        credentials = grpc.ssl_channel_credentials() if target.startswith(TLS) else None
        address = target.removeprefix(TLS).removeprefix(PLAIN)
        self._channel = connecting.channel(address, credentials, list(_OPTIONS))
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._connected = False
        self._away_until = 0.0

    def close(self) -> None:
        self._channel.close()

    def ask(self, request: requests.Request, within_s: float) -> bytes | None:
        """What HTTP would answer; None where HTTP has to be asked: nothing was done then.

        Or it was under the key of the request, and HTTP has the answer. LoopaiError.
        """
        call = rpc.call(request)
        if call is None or not self._ready(within_s):
            return None
        try:
            return rpc.answer(call, self._replies(call, within_s))
        except grpc.RpcError as error:
            self._failed(error, request)
        return None

    def _ready(self, within_s: float) -> bool:
        if self._connected:
            return True
        if time.monotonic() < self._away_until:
            return False
        self._connected = connecting.ready(self._channel, min(READY_S, within_s / 2))
        if not self._connected:
            self._away_until = time.monotonic() + AWAY_S
        return self._connected

    def _replies(self, call: rpc.Call, within_s: float) -> list[Any]:
        path, decode = SERVICE + call.method, _DECODE[call.method]
        if not call.streams:
            ask = self._channel.unary_unary(path, _serialize, decode)
            return [ask(call.messages[0], timeout=within_s, metadata=self._metadata)]
        stream = self._channel.stream_stream(path, _serialize, decode)
        coming = stream(iter(call.messages), timeout=within_s, metadata=self._metadata)
        return connecting.replies(coming)

    def _failed(self, error: Any, request: requests.Request) -> None:
        """Return where HTTP has to be asked. LoopaiError."""
        metadata = dict(error.trailing_metadata() or ())  # any: grpc has no type for it
        known = rpc.error(metadata.get(rpc.DETAILS_KEY, b""))
        if known is not None:
            raise known from error
        code = error.code()
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self._connected, self._away_until = False, time.monotonic() + AWAY_S
            return
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise errors.DeadlineExceeded("no answer before the deadline") from error
        self._connected = False
        text = f"{request.method} {request.path}: {error.details()}"
        raise errors.ConnectionFailed(text) from error


def _serialize(message: loopai_pb2.ExecuteRequest) -> bytes:
    return message.SerializeToString()
