"""`/api/v1/keys`: make, list and revoke API keys; an admin's own tenant's, or, at home, of any."""

from datetime import UTC, datetime

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.catalog import keys
from loopai.ingress import bodies, identity, services
from streams import ids
from streams.messages import ApiKey, Scope

log = structlog.get_logger()


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    scopes: tuple[Scope, ...]
    tenant: str | None = None
    """None: that of whoever asks."""
    expires_at: datetime | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is shown: nothing of it but the last four characters."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    last4: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str


class NewKeyView(KeyView, frozen=True, kw_only=True):
    key: str
    """The key itself, this once."""


_create = msgspec.json.Decoder(CreateKey)


async def create(request: Request) -> Response:
    shared, caller = services.of(request), identity.of(request)
    body = bodies.decode(await bodies.read(request, shared.settings.body_bytes_max), _create)
    tenant = _tenant(caller, body.tenant)
    now = datetime.now(UTC)
    wrong = keys.wrong_with(body.name, body.scopes, tenant, body.expires_at, now)
    if wrong is not None:
        raise errors.ApiError("INVALID_REQUEST", f"{wrong.path}: {wrong.message}", errors=(wrong,))
    made, secret = await shared.keys.create(
        tenant=tenant,
        name=body.name,
        scopes=body.scopes,
        created_by=caller.name,
        now=now,
        expires_at=body.expires_at,
    )
    log.info("key made", id=made.id, tenant=tenant, name=made.name, by=caller.name)
    fields = msgspec.structs.asdict(_view(made)) | {"key": secret}
    return bodies.json(msgspec.convert(fields, NewKeyView), 201, {"Cache-Control": "no-store"})


async def list_all(request: Request) -> Response:
    """Those that have ended as well: what was open, and until when, is asked afterwards."""
    tenant = _tenant(identity.of(request), request.query_params.get("tenant"))
    found = await services.of(request).keys.of(tenant)
    return bodies.json({"keys": [_view(each) for each in found]})


async def revoke(request: Request) -> Response:
    caller, key_id = identity.of(request), request.path_params["key"]
    if not ids.is_id(key_id):
        raise errors.ApiError("KEY_NOT_FOUND", f"no key {key_id[:64]!r}")
    ended = await services.of(request).keys.revoke(
        None if _is_home(caller) else caller.tenant,
        key_id,
        by=caller.name,
        now=datetime.now(UTC),
    )
    log.info("key revoked", id=ended.id, tenant=ended.tenant, name=ended.name, by=caller.name)
    return bodies.json(_view(ended))


def _is_home(caller: identity.Identity) -> bool:
    return caller.tenant == keys.HOME


def _tenant(caller: identity.Identity, asked: str | None) -> str:
    """The tenant whose keys *caller* asks for. FORBIDDEN."""
    if asked is None or asked == caller.tenant or _is_home(caller):
        return asked or caller.tenant
    raise errors.ApiError(
        "FORBIDDEN",
        f"keys of another tenant take an admin of the tenant {keys.HOME}; leave `tenant` out",
        scope="admin",
    )


def _view(key: ApiKey) -> KeyView:
    return msgspec.convert(key, KeyView, from_attributes=True)


routes = [
    Route("/keys", create, methods=["POST"]),
    Route("/keys", list_all, methods=["GET"]),
    Route("/keys/{key}", revoke, methods=["DELETE"]),
]
