"""The program texts that a worker keeps in memory, so that a batch finds its program there."""

from collections import OrderedDict
from typing import Final

from loopai.catalog import catalog
from loopai.sandbox import program
from streams.messages import ProgramArtifact

BYTES_MAX: Final = 64 * 1024 * 1024
"""Of all of them together: a thousand of 64 KiB. A text is 1 MiB at most."""
OVERHEAD_BYTES: Final = 1024
"""Of each, beside its text: what bounds the number of tiny ones."""


class Texts:
    """Reads texts from the store; the one used least recently goes for a new one."""

    def __init__(self, known: catalog.Catalog, *, bytes_max: int = BYTES_MAX) -> None:
        self._catalog = known
        self._bytes_max = bytes_max
        self._bytes = 0
        self._programs: OrderedDict[tuple[str, ...], program.Program] = OrderedDict()

    async def program(self, tenant: str, artifact: ProgramArtifact) -> program.Program:
        """The program of *artifact*. stores.StoreError when its text cannot be read."""
        key = (tenant, artifact.digest, artifact.language, artifact.isolation)
        found = self._programs.get(key)
        if found is not None:
            self._programs.move_to_end(key)
            return found
        code = await self._catalog.code(artifact)
        loaded = program.Program(
            tenant=tenant,
            digest=artifact.digest,
            code=code,
            isolation=artifact.isolation,
            language=artifact.language,
        )
        # Another batch may have read it meanwhile.
        if self._programs.setdefault(key, loaded) is loaded:
            self._bytes += _size(loaded)
        while self._bytes > self._bytes_max and len(self._programs) > 1:
            self._bytes -= _size(self._programs.popitem(last=False)[1])
        return loaded


def _size(loaded: program.Program) -> int:
    return len(loaded.code) + OVERHEAD_BYTES
