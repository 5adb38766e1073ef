"""What the URL of a webhook may be, as far as it can be said without asking for its address."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final

import httpx

from loopai.webhooks import addresses

URL_CHARACTERS_MAX: Final = 2_048
PORTS_WELL_KNOWN: Final = frozenset({80, 443})
PORT_LEAST: Final = 1_024
"""Below it there are mail, SSH and the like, which a POST must not be smuggled into."""
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}")
"""A name as DNS has it, or an address without its zone."""


class InvalidUrl(ValueError):  # noqa: N818 (it says what is the matter)
    """The text says what is wrong with it, and what would be right."""


def parsed(url: str, allowed: Sequence[addresses.Network] = ()) -> httpx.URL:
    """*url*, if a webhook may have it. InvalidUrl.

    Of a host that is a name, its addresses are checked at each connection.
    """
    if len(url) > URL_CHARACTERS_MAX:
        raise InvalidUrl(f"longer than {URL_CHARACTERS_MAX} characters")
    try:
        found = httpx.URL(url)
        host = found.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise InvalidUrl(f"no URL: {error}") from error
    if found.scheme not in {"http", "https"} or not host:
        raise InvalidUrl("expected http://HOST/… or https://HOST/…")
    if _HOST.fullmatch(host) is None:
        raise InvalidUrl(f"no URL: {host[:100]!r} is no host")
    if found.userinfo:
        raise InvalidUrl("must have no user or password in it; check the signature instead")
    if found.fragment:
        raise InvalidUrl("must have no #fragment, which is never sent")
    port = found.port
    if port is not None and port not in PORTS_WELL_KNOWN and not PORT_LEAST <= port <= 65_535:  # noqa: PLR2004 (the last port)
        raise InvalidUrl(f"port {port} is none of 80, 443 and {PORT_LEAST} to 65535")
    _check_host(host, allowed)
    return found


def _check_host(host: str, allowed: Sequence[addresses.Network]) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _is_odd(host):
            raise InvalidUrl(
                f"{host} is an address in an odd spelling; write it as four decimal numbers"
            ) from None
        return
    reason = addresses.refusal(address, allowed)
    if reason is not None:
        raise InvalidUrl(reason)


def _is_odd(host: str) -> bool:
    """Whether a resolver would read *host* as an address: `2130706433`, `0x7f.1`, `0177.0.0.1`."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True
