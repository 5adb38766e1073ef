"""Which addresses a webhook may call, in all the ways in which one can be written."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopai.settings import Settings
from loopai.webhooks import addresses, target

PRIVATE = [
    "0.0.0.0",  # noqa: S104 (to be refused)
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "2001:db8::1", "2001::1", "2002:7f00:1::", "2002:808:808::1", "100::1", "64:ff9b:1::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "169.253.0.1",
    "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_that_is_not_public_is_refused(text):
    """Loopback, private, link-local, CGNAT, multicast, reserved, and IPv4 of these in IPv6."""
    reason = addresses.refusal(ipaddress.ip_address(text))
    assert reason is not None
    assert str(ipaddress.ip_address(text)) in reason
    assert "LOOPAI_WEBHOOK_PRIVATE" in reason


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_called(text):
    """The neighbours of what is refused, and what leads to a public address."""
    assert addresses.refusal(ipaddress.ip_address(text)) is None


def test_what_is_allowed_is_allowed_in_every_spelling():
    """A network counts for the IPv4 address that a connection ends at; nothing else does."""
    allowed = Settings(webhook_private="10.1.0.0/16, fd00::/8").webhook_networks
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert addresses.refusal(ipaddress.ip_address(text), allowed) is None
    for text in ("10.2.0.1", "::ffff:10.2.0.1", "127.0.0.1", "fc00::1"):
        assert addresses.refusal(ipaddress.ip_address(text), allowed) is not None


@pytest.mark.parametrize("text", PRIVATE)
def test_all_may_be_allowed(text):
    """For trying things out on one machine."""
    allowed = Settings(webhook_private="allowed").webhook_networks
    assert addresses.refusal(ipaddress.ip_address(text), allowed) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "expected http"),
        ("file:///etc/passwd", "expected http"),
        ("gopher://example.com/", "expected http"),
        ("unix:///run/docker.sock", "expected http"),
        ("//example.com/", "expected http"),
        ("example.com", "expected http"),
        ("http://", "expected http"),
        ("", "expected http"),
        ("http://user@example.com/", "user or password"),
        ("http://user:word@example.com/", "user or password"),
        ("http://example.com@127.0.0.1/", "user or password"),
        ("http://example.com/#part", "fragment"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:25/", "port 25"),
        ("http://example.com:1023/", "port 1023"),
        ("http://example.com:0/", "port 0"),
        ("http://example.com:65536/", "port 65536"),
        ("http://example.com:x/", "no URL"),
        ("http://exa mple.com/", "no URL"),
        ("http://example.com/\r\nx: y", "no URL"),
        ("http://127.0.0.1/", "loopback"),
        ("http://127.0.0.1:8080/", "loopback"),
        ("http://2130706433/", "odd spelling"),
        ("http://0x7f000001/", "odd spelling"),
        ("http://0x7f.0.0.1/", "odd spelling"),
        ("http://017700000001/", "odd spelling"),
        ("http://127.1/", "odd spelling"),
        ("http://0/", "odd spelling"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://[64:ff9b::7f00:1]/", "loopback"),
        ("http://[::]/", "unspecified"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("http://10.0.0.1/", "not a public"),
        ("https://example.com/" + "a" * target.URL_CHARACTERS_MAX, "longer than 2048"),
    ],
)  # fmt: skip
def test_a_url_that_leads_elsewhere_is_refused(url, reason):
    """Schemes, users, ports, and addresses in all spellings, each with its own reason."""
    with pytest.raises(target.InvalidUrl, match=reason):
        target.parsed(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hook?key=1",
        "http://example.com:8080/",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:8443/",
        "https://example.com:65535/",
        "https://example.com:1024/",
    ],
)
def test_a_url_of_a_public_server_is_taken(url):
    """Names, ports, international names, public addresses."""
    assert target.parsed(url).raw_host


def test_the_octal_spelling_is_refused_by_somebody():
    """Not a number of four decimals: no resolver gets to read it as 127.0.0.1."""
    with pytest.raises(target.InvalidUrl):
        target.parsed("http://0177.0.0.1/")


@given(st.integers(0, 2**32 - 1))
def test_no_spelling_of_an_address_says_more_than_another(number):
    """What is refused in four decimals is refused in every other form that anything reads."""
    plain = ipaddress.IPv4Address(number)
    refused = addresses.refusal(plain) is not None
    for form in (
        f"::ffff:{plain}",
        f"64:ff9b::{plain}",
        f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}",
    ):
        assert (addresses.refusal(ipaddress.ip_address(form)) is not None) is refused
    for host in (str(number), hex(number), f"0{number:o}", f"{number >> 24}.{number & 0xFFFFFF}"):
        with pytest.raises(target.InvalidUrl):
            target.parsed(f"http://{host}/")


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_is_refused(text):
    """Nothing else is raised, whatever somebody puts into the field."""
    for url in (text, f"http://{text}", f"https://{text}/", f"http://[{text}]/"):
        with contextlib.suppress(target.InvalidUrl):
            assert target.parsed(url).scheme in {"http", "https"}


@given(st.integers(0, 2**128 - 1))
def test_any_address_of_ipv6_is_judged(number):
    """Only what is given out for the internet may be called, and what leads to public IPv4."""
    address = ipaddress.IPv6Address(number)
    if addresses.refusal(address) is None:
        assert address in addresses.GLOBAL_IPV6 or addresses.embedded(address) != address
