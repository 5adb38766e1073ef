"""A real OIDC issuer on this machine: its keys, its two documents, and the tokens it signs."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served

AUDIENCE = "loopai-test"


class Issuer:
    """`url` once it is served. `answers` False: it is away."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = True
        self.asked = 0
        self.discovered: dict[str, object] = {}
        """What discovery says otherwise."""
        self.published: dict[str, dict[str, Any]] = {}
        self.private: dict[str, Any] = {}
        self.rotate("first")

    def rotate(self, kid: str, kind: str = "RS256") -> None:
        """Publish a new key, and no other any more."""
        if kind == "ES256":
            self.private[kid] = private = ec.generate_private_key(ec.SECP256R1())
            public = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        else:
            self.private[kid] = private = rsa.generate_private_key(65_537, 2048)
            public = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        self.published = {kid: {**public, "kid": kid, "use": "sig"}}

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": now + 300,
            "nbf": now - 1,
            "tenant": "acme",
            "scope": "author execute profile",
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str = "first", algorithm: str = "RS256", **changed: Any) -> str:
        """A token as it signs it; a claim of None is left out."""
        return jwt.encode(self.claims(**changed), self.private[kid], algorithm, {"kid": kid})

    async def discovery(self, _: object) -> Response:
        return self._document(
            {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.discovered
        )

    async def keys(self, _: object) -> Response:
        self.asked += 1
        return self._document({"keys": [*self.published.values()]})

    def _document(self, value: dict[str, Any]) -> Response:
        if not self.answers:
            return Response("away", 503)
        return Response(msgspec.json.encode(value), media_type="application/json")


@contextlib.asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    routes = [
        Route("/.well-known/openid-configuration", issuer.discovery),
        Route("/keys", issuer.keys),
    ]
    async with served(Starlette(routes=routes)) as url:
        issuer.url = url
        yield issuer
