"""Client of Loopai: `Client` blocks, `AsyncClient` does the same with async and await."""

from loopai_client.aio.client import AsyncClient
from loopai_client.blocking.client import Client
from loopai_client.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ConnectionFailed,
    DeadlineExceeded,
    ExecutionFailed,
    FieldError,
    InvalidRequestError,
    LoopaiError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnavailableError,
)
from loopai_client.version import __version__
from loopai_client.webhooks import verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "Client",
    "ConflictError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "ExecutionFailed",
    "FieldError",
    "InvalidRequestError",
    "LoopaiError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ServerError",
    "UnavailableError",
    "__version__",
    "verify_webhook",
]
