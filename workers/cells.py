"""What the pools that run programs have in common: a sandbox that was tried, and the catalogue."""

import contextlib
from collections.abc import AsyncIterator, Collection

from loopai import errors
from loopai.catalog import catalog, library
from loopai.sandbox import doctor, limits, pool
from streams.messages import Language
from workers import metrics, runtime


@contextlib.asynccontextmanager
async def opened(
    host: runtime.Host, *, cells_max: int, writes: bool, languages: Collection[Language] = ()
) -> AsyncIterator[tuple[catalog.Catalog, pool.CellPool]]:
    """Open both while inside; *writes*: whether the pool makes versions.

    StartupError when programs in *languages* cannot be kept in here, or the store cannot be used.
    """
    bounds = limits.Limits(memory_bytes_max=host.settings.cell_memory_bytes_max)
    try:
        await doctor.require(bounds, languages=languages)
    except doctor.Unavailable as error:
        raise errors.StartupError(f"the sandbox does not work here: {error}") from error
    opening = library.opened(host.settings, host.connection, host.registry, writes=writes)
    async with opening as known:
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
