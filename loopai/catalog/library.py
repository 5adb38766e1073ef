"""The catalogue as a process opens it: cache, store, other sites, and the registry over them."""

import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry

from loopai.catalog import catalog, exchange
from loopai.catalog.cache import cache
from loopai.catalog.stores import store
from loopai.settings import Settings
from streams.connection import Connection


@contextlib.asynccontextmanager
async def opened(
    known: Settings, connection: Connection, shown: CollectorRegistry, *, writes: bool
) -> AsyncIterator[catalog.Catalog]:
    """The catalogue while inside, its cache in *shown*; *writes*: whether versions are made here.

    StartupError when the store cannot be used.
    """
    async with (
        store.opened(known.store, writes=writes) as own,
        cache.opened(known, exchange.Exchanged(own, connection), shown) as texts,
        catalog.Catalog(connection, own, texts).opened() as found,
    ):
        yield found
