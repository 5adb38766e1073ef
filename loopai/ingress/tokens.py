"""Tokens of an OIDC issuer: JWTs, checked with the issuer's own keys (ADR 0021)."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Any, Final

import httpx
import jwt
import msgspec
import structlog

from loopai import errors, settings
from loopai.catalog import keys
from loopai.ingress import identity
from streams import ending, subjects

log = structlog.get_logger()

ALGORITHMS: Final[dict[str | None, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""By the kind of key. Asymmetric ones only: with HS256 the issuer's public key, which is shown to
everybody, would be the secret."""
LEEWAY_S: Final = 30
"""How far our clock and the issuer's may be apart."""
TOKEN_BYTES_MAX: Final = 8 * settings.KIB
CHECKED_S: Final = 60.0
"""A token that was valid is taken as such for so long, without another look at its signature."""
CHECKED_MAX: Final = 10_000
"""Tokens that are remembered so; the least recently checked goes first. Some 5 MB."""
KEYS_AGE_S: Final = 300.0
"""After so long the keys are asked for again, while those at hand go on serving."""
ASK_S: Final = 10.0
"""The issuer is asked no more often, whatever keys strangers' tokens name."""
FETCH_S_MAX: Final = 5.0
NAME_CHARACTERS_MAX: Final = 128


class Refused(Exception):  # noqa: N818 (it says what is the matter)
    """The token is not valid, or says too little."""


class Unfetched(ValueError):  # noqa: N818 (it says what is the matter)
    """The issuer's answer is not what it should be."""


_UNFETCHED: Final = (
    *(httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError),
    *(msgspec.MsgspecError, OSError, ValueError),
)


class Discovery(msgspec.Struct, frozen=True):
    """What is needed of OpenID Connect Discovery 1.0."""

    issuer: str
    jwks_uri: str


class Issuer:
    """The one issuer whose tokens are taken. Closed by its maker."""

    def __init__(self, known: settings.Settings, *, ask_s: float = ASK_S) -> None:
        self._issuer = known.jwt_issuer
        self._audience = known.jwt_audience
        self._jwks_url = known.jwt_jwks_url
        self._tenant_claim = known.jwt_tenant_claim
        self._scopes_claim = known.jwt_scopes_claim
        self._ask_s = ask_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._fetched_at = float("-inf")
        self._failed = False
        """Whether the issuer did not answer when it was last asked."""
        self._asking: asyncio.Task[None] | None = None
        self._checked: OrderedDict[bytes, identity.Identity] = OrderedDict()

    async def close(self) -> None:
        if self._asking is not None:
            await ending.end(self._asking)

    def known(self, token: bytes) -> identity.Identity | None:
        """Whose *token* is, if it was checked a moment ago."""
        found = self._checked.get(hashlib.sha256(token).digest())
        return None if found is None or found.expires_at <= time.time() else found

    async def identify(self, token: bytes) -> identity.Identity | None:
        """Whose *token* is; None where it is not valid. ISSUER_UNAVAILABLE."""
        try:
            found = self._identity(await self._claims(token))
        except (Refused, jwt.PyJWTError, RecursionError) as error:
            # For the log only: a stranger learns nothing from the answer.
            log.info("token refused", reason=str(error) or type(error).__name__)
            return None
        self._remember(token, found)
        return found

    async def _claims(self, token: bytes) -> dict[str, Any]:  # any: JSON
        if len(token) > TOKEN_BYTES_MAX:
            raise Refused(f"it is longer than {TOKEN_BYTES_MAX} bytes")
        kid = jwt.get_unverified_header(token).get("kid")
        key = await self._key(kid) if isinstance(kid, str) else None
        if key is None:
            raise Refused("it names no key of the issuer")
        claims: dict[str, Any] = jwt.decode(
            token,
            # Not the PyJWK, which would bring an algorithm of its own.
            key=key.key,
            # Those of its kind: a stranger's head may name any, and PyJWT would raise a TypeError.
            algorithms=ALGORITHMS[key.key_type],
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _identity(self, claims: dict[str, Any]) -> identity.Identity:  # any: JSON
        tenant = claims.get(self._tenant_claim)
        if not isinstance(tenant, str) or not subjects.is_name(tenant):
            raise Refused(f"its claim {self._tenant_claim!r} is no tenant")
        scopes = claims.get(self._scopes_claim, "")
        listed = scopes.split() if isinstance(scopes, str) else scopes
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise Refused(f"its claim {self._scopes_claim!r} is neither a text nor a list of texts")
        # A key's name has no colon: nobody's subject can pass for a key.
        name = f"oidc:{claims['sub']}"
        return identity.Identity(
            key_id=name,
            tenant=tenant,
            name=name[:NAME_CHARACTERS_MAX],
            scopes=keys.covered(listed),
            expires_at=min(float(claims["exp"]) + LEEWAY_S, time.time() + CHECKED_S),
        )

    def _remember(self, token: bytes, found: identity.Identity) -> None:
        digest = hashlib.sha256(token).digest()
        self._checked[digest] = found
        self._checked.move_to_end(digest)
        while len(self._checked) > CHECKED_MAX:
            self._checked.popitem(last=False)

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        """The issuer's key of that name; None where it has none. ISSUER_UNAVAILABLE."""
        found = self._keys.get(kid)
        now = time.monotonic()
        wanted = found is None or now - self._fetched_at > KEYS_AGE_S
        if wanted and self._asking is None and now - self._asked_at >= self._ask_s:
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        if found is None and self._asking is not None:
            # Shielded: whoever goes meanwhile must not take the answer from the others.
            await asyncio.shield(self._asking)
            found = self._keys.get(kid)
        if found is None and self._failed:
            raise errors.ApiError(
                "ISSUER_UNAVAILABLE",
                "the keys of the token issuer cannot be had now; try again later",
                retry_after_s=int(ASK_S),
            )
        return found

    async def _ask(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._fetch)
            self._fetched_at = time.monotonic()
            self._failed = False
        except _UNFETCHED as error:
            # Those at hand go on serving.
            self._failed = True
            log.warning("keys of the issuer not fetched", issuer=self._issuer, reason=str(error))
        finally:
            self._asking = None

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        """In a thread: this waits."""
        url = self._jwks_url or self._discover()
        client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH_S_MAX)
        return {
            each.key_id: each
            for each in client.get_signing_keys()
            if each.key_id is not None and each.key_type in ALGORITHMS
        }

    def _discover(self) -> str:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = httpx.get(url, timeout=FETCH_S_MAX).raise_for_status()
        found = msgspec.json.decode(answer.content, type=Discovery)
        if found.issuer != self._issuer:
            raise Unfetched(f"{url} is of another issuer, {found.issuer[:200]!r}")
        if not settings.is_trustworthy(found.jwks_uri):
            raise Unfetched(f"{url} names keys at {found.jwks_uri[:200]!r}, which is not https")
        return found.jwks_uri
