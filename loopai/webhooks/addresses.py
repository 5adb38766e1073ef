"""Which addresses a webhook may be posted to: rules without I/O (SSRF defence, ADR 0024)."""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""An IPv4 address in its last 32 bits, which a gateway connects to (RFC 6052)."""
COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
"""The same, long out of use (RFC 4291)."""
GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
"""The one part of IPv6 that is given out for the internet."""
REFUSED: Final[tuple[Network, ...]] = (
    ipaddress.IPv4Network("100.64.0.0/10"),  # carrier-grade NAT, and Alibaba's metadata
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure's metadata, at a public address
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocols', and Oracle's metadata
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv6Network("2001::/23"),  # protocols', Teredo among them
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation
    ipaddress.IPv6Network("2002::/16"),  # 6to4: an IPv4 address of anybody's choice
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
"""What is not public, beside what every release of Python's `ipaddress` knows."""


def refusal(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Why nothing may be posted to *address*; None where it may.

    What holds an IPv4 address is judged by that one. *allowed* goes before all else.
    """
    bare = embedded(address)
    if any(each.version == bare.version and bare in each for each in allowed):
        return None
    kind = _kind(bare)
    if kind is None:
        return None
    shown = str(address) if bare == address else f"{address} ({bare})"
    return f"{shown} is {kind}; LOOPAI_WEBHOOK_PRIVATE says which such addresses may be called"


def embedded(address: Address) -> Address:
    """The IPv4 address that a connection to *address* ends at; else *address* itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    # Without its zone: an address with one is in no network.
    bare = ipaddress.IPv6Address(int(address))
    if bare in NAT64 or (bare in COMPATIBLE and int(bare) > 1):
        return ipaddress.IPv4Address(int(bare) & 0xFFFFFFFF)
    return bare


def _kind(address: Address) -> str | None:
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address, where clouds keep their metadata"
    if address.is_multicast:
        return "a multicast address"
    listed = any(each.version == address.version and address in each for each in REFUSED)
    local = not address.is_global or address.is_private or address.is_reserved
    elsewhere = isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_IPV6
    return "not a public address" if listed or local or elsewhere else None
