"""A real nats-server that asks who one is, with the configuration that we ship."""

import asyncio
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from loopai.embedded import broker
from streams import permissions
from tests.wait import until

TENANTS = ("acme", "beta", "3")


class Secured:
    """Use as `async with`; *values* are what the broker's environment has for each variable."""

    def __init__(
        self,
        folder: Path,
        *,
        proof: permissions.Proof = "password",
        values: dict[str, str] | None = None,
        more: str = "",
    ) -> None:
        self._folder = folder
        self._proof: permissions.Proof = proof
        self._values = values or {}
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Of the admin, who provisions."""
        return self.url_of("admin")

    def url_of(self, role: str) -> str:
        return f"nats://{role}:{_password(role)}@127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True)
        block = permissions.configuration(TENANTS, proof=self._proof)
        (self._folder / "permissions.conf").write_text(block)
        (self._folder / "nats.conf").write_text(
            f"listen: 127.0.0.1:-1\nports_file_dir: {self._folder}\nmax_payload: 8MB\n"
            f"jetstream {{ store_dir: {self._folder}, max_file_store: 1TB }}\n"
            f"{self._more}\ninclude ./permissions.conf\n"
        )
        roles = [*permissions.ROLES, *map(permissions.tenant, TENANTS)]
        made = {permissions.variable(each, "password"): _password(each.name) for each in roles}
        self._process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
            [broker.find_server(), "-c", str(self._folder / "nats.conf")],
            env={**os.environ, **made, **self._values},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        await until(lambda: ports.exists() and ports.stat().st_size > 0)
        found: Any = msgspec.json.decode(ports.read_bytes())
        (url, *_) = [each for kind in ("nats", "tls") for each in found.get(kind) or ()]
        self.port = int(url.rpartition(":")[2])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


def _password(role: str) -> str:
    return f"secret-of-{role}"
