"""What the pools that run programs have in common: a sandbox that was tried, and the catalogue."""

import contextlib
from collections.abc import AsyncIterator, Collection

from loopai import errors
from loopai.catalog import catalog, programs
from loopai.catalog.cache import cache
from loopai.sandbox import doctor, limits, pool
from streams.messages import Language
from workers import metrics, runtime


@contextlib.asynccontextmanager
async def opened(
    host: runtime.Host, *, cells_max: int, languages: Collection[Language] = ()
) -> AsyncIterator[tuple[catalog.Catalog, pool.CellPool]]:
    """Open both while inside. StartupError when programs in *languages* cannot be kept in here."""
    bounds = limits.Limits(memory_bytes_max=host.settings.cell_memory_bytes_max)
    try:
        await doctor.require(bounds, languages=languages)
    except doctor.Unavailable as error:
        raise errors.StartupError(f"the sandbox does not work here: {error}") from error
    store = programs.FilesystemStore(host.settings.artifacts_dir)
    async with (
        cache.opened(host.settings, store, host.registry) as texts,
        catalog.Catalog(host.connection, texts).opened() as known,
    ):
        cells = pool.CellPool(
            bounds, cells_max=cells_max, memory_bytes_max=host.settings.cells_bytes_max
        )
        shown = metrics.CellCollector(cells)
        host.registry.register(shown)
        try:
            yield known, cells
        finally:
            host.registry.unregister(shown)
            await cells.close()
