"""A version's program as the sandbox takes it, its text out of the catalogue's cache."""

from loopai.catalog import catalog
from loopai.sandbox import program
from streams.messages import ProgramArtifact


async def program_of(
    known: catalog.Catalog, tenant: str, artifact: ProgramArtifact
) -> program.Program:
    """The program of *artifact*. stores.StoreError when its text cannot be read."""
    return program.Program(
        tenant=tenant,
        digest=artifact.digest,
        code=await known.code(artifact),
        isolation=artifact.isolation,
        language=artifact.language,
    )
