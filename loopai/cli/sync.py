"""`loopai sync`: how far the store of each site follows the registry."""

import asyncio
from datetime import datetime

import msgspec
import typer

from loopai.cli import api, options, output


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    task: str
    version: int
    expected: str
    found: str
    at: datetime


class Site(msgspec.Struct, frozen=True, kw_only=True):
    site: str
    store: str
    versions: int
    missing: int
    lag_s: float
    conflicts: int
    latest_conflicts: tuple[Conflict, ...] = ()
    reason: str = ""


class SiteList(msgspec.Struct, frozen=True):
    sites: tuple[Site, ...]


def sync(url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False) -> None:
    """Show how far the store of each site follows the registry.

    The exit code is 1 where no site is known, or one lacks something.

    Example: `loopai sync`
    """
    answer = asyncio.run(_get(url))
    sites = api.decode(answer, SiteList).sites
    if as_json:
        output.print_json(answer)
    elif sites:
        columns = ("site", "store", "versions#", "missing#", "lag#", "conflicts#")
        output.stdout().print(output.grid(columns, [_row(each) for each in sites]))
        for each in sites:
            _explain(each)
    else:
        output.print_line("no syncer is running: python -m workers syncer")
    if not sites or any(each.missing for each in sites):
        raise typer.Exit(1)


def _row(site: Site) -> tuple[str, ...]:
    return (
        site.site,
        site.store,
        str(site.versions),
        str(site.missing),
        f"{site.lag_s:.1f} s",
        str(site.conflicts),
    )


def _explain(site: Site) -> None:
    if site.reason:
        output.print_line(f"{site.site} waits: {site.reason}")
    for one in site.latest_conflicts:
        output.print_line(
            f"{site.site} had {one.found[:12]} for {one.task} version {one.version}; "
            f"the registry says {one.expected[:12]}, which it has now"
        )


async def _get(url: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get("/api/v1/sync")
