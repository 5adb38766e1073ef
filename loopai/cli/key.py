"""`loopai key`: API keys, through the API or, where there is none yet, on the bus itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, get_args
from urllib.parse import quote

import msgspec
import typer

from loopai import errors
from loopai.cli import api, failure, moment, options, output
from streams import messages

if TYPE_CHECKING:
    from loopai.catalog import keys

SCOPES: Final = get_args(messages.Scope)
BY: Final = "cli"
"""Who made or revoked what the bus's own rights were used for."""

Bus = Annotated[
    bool,
    typer.Option("--bus", help="Use the bus itself and its rights: the API need not let you in."),
]
Tenant = Annotated[
    str | None, typer.Option(metavar="TENANT", help="Whose keys; your own key's if not set.")
]

app = typer.Typer(help="API keys: who may use the API, and for what.", no_args_is_help=True)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the API shows it; with `key` itself where it has just been made."""

    id: str
    tenant: str
    name: str
    scopes: tuple[messages.Scope, ...]
    last4: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    rate: str = ""
    quota: str = ""
    revoked_at: datetime | None = None
    revoked_by: str = ""
    key: str | msgspec.UnsetType = msgspec.UNSET


class KeyList(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /keys`."""

    name: str
    scopes: tuple[messages.Scope, ...]
    tenant: str | None = None
    expires_at: datetime | None = None
    rate: str = ""
    quota: str = ""


@app.command()
def create(
    *,
    name: Annotated[str, typer.Argument(help="What it is for: `created_by` and histories say it.")],
    scope: Annotated[
        list[str],
        typer.Option(metavar="SCOPE", help=f"{', '.join(SCOPES)}. May be repeated."),
    ],
    tenant: Tenant = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="`90d`, `12h`, or an ISO 8601 time; never if not set."),
    ] = None,
    rate: Annotated[str, typer.Option(metavar="RATE", help="Requests, such as `100/second`.")] = "",
    quota: Annotated[
        str, typer.Option(metavar="QUOTA", help="Executions, such as `10000/day`.")
    ] = "",
    bus: Bus = False,
    url: options.Url = options.URL_DEFAULT,
    nats_url: options.NatsUrl = options.NATS_URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Make a key and print it, this once.

    Example: `loopai key create ci --scope execute --expires 90d`
    """
    try:
        ends = moment.parse(expires, datetime.now(UTC), ahead=True) if expires else None
    except ValueError as error:
        raise typer.BadParameter(f"{expires!r}: {error}", param_hint="--expires") from error
    try:
        scopes = msgspec.convert(scope, tuple[messages.Scope, ...])
    except msgspec.ValidationError as error:
        said = f"expected some of {', '.join(SCOPES)}"
        raise typer.BadParameter(said, param_hint="--scope") from error
    wanted = NewKey(
        name=name, scopes=scopes, tenant=tenant, expires_at=ends, rate=rate, quota=quota
    )
    made = asyncio.run(_create_on_bus(nats_url, wanted) if bus else _create(url, wanted))
    if as_json:
        output.print_json(msgspec.json.encode(made))
        return
    # Alone on stdout, for `LOOPAI_API_KEY=$(loopai key create …)`.
    output.print_line(str(made.key))
    output.stderr().print(
        f"key {made.name} of the tenant {made.tenant}: {', '.join(made.scopes)}; "
        f"{_ends(made)}. It is not shown again (id {made.id})",
        soft_wrap=True,
    )


@app.command("list")
def list_keys(
    tenant: Tenant = None,
    bus: Bus = False,
    url: options.Url = options.URL_DEFAULT,
    nats_url: options.NatsUrl = options.NATS_URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """List the keys of a tenant, with those that have ended.

    Example: `loopai key list`
    """
    found = asyncio.run(_list_on_bus(nats_url, tenant) if bus else _list(url, tenant))
    if as_json:
        output.print_json(msgspec.json.encode(found))
        return
    rows = [
        (each.name, f"…{each.last4}", ", ".join(each.scopes), _ends(each), each.created_by, each.id)
        for each in found.keys
    ]
    if rows:
        columns = ("key", "ends in", "scopes", "state", "made by", "id")
        output.stdout().print(output.grid(columns, rows))
    else:
        output.print_line("no keys yet; `loopai key create --help` says how to make one")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `list` shows it.")],
    bus: Bus = False,
    url: options.Url = options.URL_DEFAULT,
    nats_url: options.NatsUrl = options.NATS_URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """End a key for ever: within milliseconds no ingress takes it any more.

    Example: `loopai key revoke 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    ended = asyncio.run(_revoke_on_bus(nats_url, key_id) if bus else _revoke(url, key_id))
    if as_json:
        output.print_json(msgspec.json.encode(ended))
    else:
        output.print_line(f"key {ended.name} of the tenant {ended.tenant} is {_ends(ended)}")


def _ends(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked at {output.time(key.revoked_at)} by {key.revoked_by}"
    if key.expires_at is None:
        return "valid"
    tense = "expired" if key.expires_at <= datetime.now(UTC) else "valid until"
    return f"{tense} {output.time(key.expires_at)}"


async def _create(url: str, wanted: NewKey) -> Key:
    async with api.Api(url) as client:
        return api.decode(await client.post("/api/v1/keys", msgspec.json.encode(wanted)), Key)


async def _list(url: str, tenant: str | None) -> KeyList:
    query = f"?tenant={quote(tenant, safe='')}" if tenant is not None else ""
    async with api.Api(url) as client:
        return api.decode(await client.get(f"/api/v1/keys{query}"), KeyList)


async def _revoke(url: str, key_id: str) -> Key:
    async with api.Api(url) as client:
        return api.decode(await client.delete(f"/api/v1/keys/{api.segment(key_id)}"), Key)


async def _create_on_bus(nats_url: str, wanted: NewKey) -> Key:
    from loopai.catalog import keys  # noqa: PLC0415 (kept from `loopai --help`)

    tenant, now = wanted.tenant or keys.HOME, datetime.now(UTC)
    wrong = keys.wrong_with(wanted.name, wanted.scopes, tenant, wanted.expires_at, now)
    wrong = wrong or keys.wrong_with_rates(rate=wanted.rate, quota=wanted.quota)
    if wrong is not None:
        raise failure.Failure(f"{wrong.path}: {wrong.message}")
    async with _ring(nats_url) as ring:
        made, secret = await ring.create(
            tenant=tenant,
            name=wanted.name,
            scopes=wanted.scopes,
            created_by=BY,
            now=now,
            expires_at=wanted.expires_at,
            rate=wanted.rate,
            quota=wanted.quota,
        )
    return msgspec.structs.replace(_shown(made), key=secret)


async def _list_on_bus(nats_url: str, tenant: str | None) -> KeyList:
    from loopai.catalog import keys  # noqa: PLC0415 (kept from `loopai --help`)

    async with _ring(nats_url) as ring:
        return KeyList(tuple(map(_shown, await ring.of(tenant or keys.HOME))))


async def _revoke_on_bus(nats_url: str, key_id: str) -> Key:
    async with _ring(nats_url) as ring:
        return _shown(await ring.revoke(None, key_id, by=BY, now=datetime.now(UTC)))


def _shown(key: messages.ApiKey) -> Key:
    return msgspec.convert(key, Key, from_attributes=True)


@asynccontextmanager
async def _ring(nats_url: str) -> "AsyncIterator[keys.Keyring]":
    from loopai.catalog import keys  # noqa: PLC0415 (kept from `loopai --help`)
    from loopai.cli import bus  # noqa: PLC0415 (the same)
    from streams import store  # noqa: PLC0415 (the same)

    try:
        async with (
            bus.connected(nats_url, name="loopai-key", role=bus.role(nats_url)) as connected,
            keys.Keyring(connected).opened() as ring,
        ):
            yield ring
    except store.StoreUnavailable as error:
        raise failure.Failure(f"{error}; has `python -m streams apply` been run?") from error
    except errors.ApiError as error:
        raise failure.Failure(f"{error.code}: {error}") from error
