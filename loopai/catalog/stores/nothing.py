"""A store for those who read no program texts: there is nothing in it."""

from loopai.catalog.stores import store
from streams.messages import ProgramArtifact


class Nothing:
    """Whoever writes here has taken a wrong turn, and is told."""

    url = "none"

    async def put(self, code: str) -> str:
        raise store.StoreError(f"no store to keep a text of {len(code)} characters in")

    async def get(self, digest: str) -> str:
        raise store.Missing(f"no store to read {digest} from")

    async def shelve(self, tenant: str, task: str, artifact: ProgramArtifact) -> None:
        raise store.StoreError(f"no store to show {tenant}/{task} v{artifact.version} in")

    async def shown(self, _tenant: str, _task: str, _version: int) -> ProgramArtifact | None:
        return None

    async def point(self, tenant: str, task: str, version: int | None) -> None:
        raise store.StoreError(f"no store to show {tenant}/{task} v{version} in")

    async def close(self) -> None: ...
