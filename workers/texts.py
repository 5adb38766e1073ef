"""A version's program as the sandbox takes it, its text out of the catalogue's cache."""

from loopai import errors
from loopai.catalog import catalog, programs
from loopai.sandbox import program
from streams.messages import ProgramArtifact


async def program_of(
    known: catalog.Catalog, tenant: str, artifact: ProgramArtifact
) -> program.Program:
    """The program of *artifact*. Transient when its text cannot be read."""
    try:
        code = await known.code(artifact)
    except programs.StoreError as error:
        raise errors.Transient(str(error)) from error
    return program.Program(
        tenant=tenant,
        digest=artifact.digest,
        code=code,
        isolation=artifact.isolation,
        language=artifact.language,
    )
