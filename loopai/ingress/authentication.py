"""From the credential of a request to who it is from: an API key, or a token of the issuer."""

from collections.abc import Iterable
from typing import Final

from loopai import errors
from loopai.catalog import keys
from loopai.ingress import identity, tokens

_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})
_BEARER: Final = b"bearer "
_KEY_PREFIX: Final = keys.PREFIX.encode()
_HOW: Final = "send it as `Authorization: Bearer …` or, an API key, as `X-Api-Key`"


class Authenticator:
    """Knows callers by their credentials. What it looks in is closed by whoever made it."""

    def __init__(self, ring: keys.Keyring, issuer: tokens.Issuer | None) -> None:
        self._ring = ring
        self._issuer = issuer

    def plain(self, headers: Iterable[tuple[bytes, bytes]]) -> identity.Identity | None:
        """Who sends *headers*, as far as memory knows and a glance tells.

        What the hot path has the time for; whatever is None here goes the general way.
        """
        given = b""
        for name, value in headers:
            if name == b"authorization" and not given and value[:7] == b"Bearer ":
                given = value[7:]
            elif name == b"x-api-key" and not given:
                given = value
            elif name in _CREDENTIALS:
                return None
        return self._known(given)

    def _known(self, credential: bytes) -> identity.Identity | None:
        if self._issuer is None or credential.startswith(_KEY_PREFIX):
            return self._ring.find(credential)
        return self._issuer.known(credential)

    async def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> identity.Identity:
        """Who sends *headers*, whose names are in small letters.

        UNAUTHENTICATED; ISSUER_UNAVAILABLE of a token.
        """
        given = _given(headers)
        if not given:
            raise errors.ApiError("UNAUTHENTICATED", f"there is no credential; {_HOW}")
        # With two, what is checked and what a proxy or a person has read might differ.
        if len(given) > 1:
            raise errors.ApiError("UNAUTHENTICATED", f"there are several credentials; {_HOW} once")
        found = self._known(given[0])
        if found is None and given[0].startswith(_KEY_PREFIX):
            found = await self._ring.look(given[0])
        elif found is None and self._issuer is not None:
            found = await self._issuer.identify(given[0])
        if found is None:
            # The same for what is unknown, revoked or has run out: strangers learn nothing.
            raise errors.ApiError("UNAUTHENTICATED", f"the credential is not valid; {_HOW}")
        return found

    def holds(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether what *headers*, which were let in, have is still valid.

        A key may be revoked while a request of days is under way; a token is for its beginning.
        """
        [given] = _given(headers)
        return not given.startswith(_KEY_PREFIX) or self._known(given) is not None


def _given(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The credentials in *headers*: empty where one is of another kind than ours."""
    return [_credential(name, value) for name, value in headers if name in _CREDENTIALS]


def _credential(name: bytes, value: bytes) -> bytes:
    if name == b"x-api-key":
        return value
    return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else b""
