"""The executor pool: what it takes work from, and what it is made of."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from loopai import errors, settings
from loopai.catalog import catalog
from loopai.sandbox import pool, runtimes
from streams import subjects, topology
from streams.connection import Connection
from streams.messages import Language, Runtime
from workers import (
    admitter,
    cancellations,
    cells,
    events,
    execution,
    metrics,
    runtime,
    shadows,
    slots,
    warming,
)

NAME: Final = "executor"
HANDLE_S_MAX: Final = 1_800.0
"""256 items of 5 s each, and some."""


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool. StartupError when this machine cannot keep programs in."""
    languages = _languages(host.settings, runtimes.languages())
    opened_cells = cells.opened(
        host, cells_max=host.settings.cells_max, languages=languages, writes=False
    )
    async with (
        opened_cells as (known, running),
        _events(host.connection) as shown,
        cancellations.Cancellations(host.connection).opened() as cancelled,
        warming.Warmer(host.connection, known, languages=languages).opened(
            bytes_max=host.settings.cache_bytes_max
        ),
        _shadows(host, known, running, languages) as beside,
    ):
        executor = execution.Executor(
            host.connection,
            known,
            running,
            shown,
            cancelled,
            beside=beside,
            languages=languages,
            run_ms_max=host.settings.run_ms_max,
            worker=host.instance,
            weights=host.settings.weights,
        )
        named = sorted({topology.RUNTIMES[each] for each in languages})
        asked = [subjects.admit(each) for each in named]
        admitting = admitter.Admitter(host.connection, running, asked, queue=NAME)
        async with admitting.opened():
            yield runtime.Pool(
                name=NAME,
                sources=_sources(host.settings, named),
                limits=slots.Limits(
                    slots=host.settings.executor_slots,
                    tenant_running_max=host.settings.tenant_running_max,
                    task_running_max=host.settings.task_running_max,
                    weights=host.settings.weights,
                ),
                handle=executor.handle,
                handle_s_max=HANDLE_S_MAX,
                languages=tuple(sorted(languages)),
                rates=executor.rates,
                drain=admitting.drain,
            )


def _sources(known: settings.Settings, named: Sequence[Runtime]) -> tuple[runtime.Source, ...]:
    """The queues of all lanes, of the runtimes *named*."""
    # As many again as may run of one task: who has nothing waiting here gives its turn away. More
    # would wait here while another worker is free.
    prefetch = 2 * min(known.executor_slots, known.task_running_max)
    return tuple(
        runtime.Source(spec=spec, prefetch=prefetch, lane=lane)
        for each in named
        for lane, specs in topology.EXECUTORS[each].items()
        for spec in specs
    )


@contextlib.asynccontextmanager
async def _events(connection: Connection) -> AsyncIterator[events.Events]:
    shown = events.Events(connection)
    try:
        yield shown
    finally:
        await shown.close()


@contextlib.asynccontextmanager
async def _shadows(
    host: runtime.Host,
    known: catalog.Catalog,
    running: pool.CellPool,
    languages: frozenset[Language],
) -> AsyncIterator[shadows.Shadows]:
    beside = shadows.Shadows(
        host.connection,
        known,
        running,
        languages=languages,
        run_ms_max=host.settings.run_ms_max,
        worker=host.instance,
    )
    shown = metrics.ShadowCollector(beside.counts)
    host.registry.register(shown)
    try:
        async with beside.opened():
            yield beside
    finally:
        host.registry.unregister(shown)


def _languages(known: settings.Settings, here: frozenset[Language]) -> frozenset[Language]:
    """What this executor takes on: what runs *here*, or the part of it that it is told to."""
    wanted = known.runtimes_wanted
    if wanted is None:
        return here & topology.RUNTIMES.keys()
    found = frozenset(each for each in here if topology.RUNTIMES.get(each) in wanted)
    missing = wanted - {topology.RUNTIMES[each] for each in found}
    if missing:
        raise errors.StartupError(
            f"LOOPAI_RUNTIMES={known.runtimes!r}: there is no {', '.join(sorted(missing))} here; "
            "install it (`loopai[javascript]` brings deno), or leave it out"
        )
    return found
