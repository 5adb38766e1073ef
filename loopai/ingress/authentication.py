"""From the credential of a request to who it is from: an API key, or a token of the issuer."""

from collections.abc import Iterable
from typing import Final

from loopai import errors
from loopai.catalog import keys
from loopai.ingress import identity, tokens

_BEARER: Final = b"bearer "
_KEY_PREFIX: Final = keys.PREFIX.encode()
_HOW: Final = "send it as `Authorization: Bearer …` or, an API key, as `X-Api-Key`"


class Authenticator:
    """Knows callers by their credentials. What it looks in is closed by whoever made it."""

    def __init__(self, ring: keys.Keyring, issuer: tokens.Issuer | None) -> None:
        self._ring = ring
        self._issuer = issuer

    def known(self, credential: bytes) -> identity.Identity | None:
        """Whose *credential* is, as far as memory knows: what the hot path has the time for."""
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
        found = self.known(given[0])
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
        return not given.startswith(_KEY_PREFIX) or self.known(given) is not None


def _given(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for each in headers if (value := credential(*each)) is not None]


def credential(name: bytes, value: bytes) -> bytes | None:
    """The credential that a header holds; None where it is for something else."""
    if name == b"authorization":
        return value[len(_BEARER) :].strip() if value[:7].lower() == _BEARER else b""
    return value if name == b"x-api-key" else None
