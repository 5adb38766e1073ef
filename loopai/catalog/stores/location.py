"""Where program texts are kept: the URL of a store taken apart, with a reason where it is wrong."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from loopai import errors

SETTING: Final = "LOOPAI_STORE_URL"
FORMS: Final = (
    "expected file:///folder or s3://bucket/prefix, of which the latter takes "
    "?endpoint=URL&region=NAME&path_style=true"
)
PARAMETERS: Final = ("endpoint", "region", "path_style")

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    path: Path


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    """As configured; there are never secrets in it."""
    bucket: str
    prefix: str
    """Of every key; empty, or without a slash at either end."""
    endpoint: str | None
    """None: that of AWS."""
    region: str | None
    path_style: bool | None
    """None: the bucket goes into the path where there is an endpoint, into the host's name else."""


Place = Folder | Bucket


def parse(url: str) -> Place:
    """The place that *url* names. StartupError with the setting, the URL and the reason."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise wrong(url, f"{error}; {FORMS}") from error
    if parts.fragment:
        raise wrong(url, "a # in a name is written as %23")
    if "@" in parts.netloc:
        raise wrong(url, "no user or password here: credentials come from the AWS_* variables")
    match parts.scheme:
        case "file":
            return _folder(url, parts)
        case "s3":
            return _bucket(url, parts)
    raise wrong(url, FORMS)


def wrong(url: str, reason: str) -> errors.StartupError:
    """The error that ends a start because of *url*."""
    return errors.StartupError(f"{SETTING}={shown(url)}: {reason}")


def shown(url: str) -> str:
    """*url* without what may be a secret: a user's name and password, and unknown parameters."""
    head, _, query = url.partition("?")
    shown_query = [
        pair if pair.partition("=")[0] in PARAMETERS else f"{pair.partition('=')[0]}=…"
        for pair in filter(None, query.split("&"))
    ]
    # An endpoint may be written with escapes, and its user then ends at a %40.
    cut = (
        re.sub(r"//.*@", "//…@", unquote(pair)) if "@" in unquote(pair) else pair
        for pair in [head, *shown_query]
    )
    first, *others = cut
    return f"{first}?{'&'.join(others)}" if others else first


def _folder(url: str, parts: SplitResult) -> Folder:
    if parts.netloc or not parts.path.startswith("/"):
        raise wrong(url, "a folder is named by its whole path: file:///folder, with three slashes")
    if parts.query:
        raise wrong(url, "a folder takes no parameters; a ? in its name is written as %3F")
    path = unquote(parts.path)
    if "\0" in path:
        raise wrong(url, "there is a zero byte in the path")
    return Folder(url=url, path=Path(path))


def _bucket(url: str, parts: SplitResult) -> Bucket:
    if not parts.netloc:
        raise wrong(url, "it names no bucket: s3://bucket/prefix")
    if _BUCKET.fullmatch(parts.netloc) is None:
        raise wrong(url, f"no name of a bucket: {parts.netloc[:80]!r}")
    prefix = unquote(parts.path).strip("/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise wrong(url, "the prefix has a part that is empty, `.` or `..`")
    given = _parameters(url, parts.query)
    region = given.get("region")
    if region is not None and _REGION.fullmatch(region) is None:
        raise wrong(url, "region: expected a name such as eu-central-1")
    path_style = given.get("path_style")
    if path_style not in (None, "true", "false"):
        raise wrong(url, "path_style: expected true or false")
    endpoint = given.get("endpoint")
    if endpoint is not None:
        _check_endpoint(url, endpoint)
    return Bucket(
        url=url,
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=endpoint,
        region=region,
        path_style=None if path_style is None else path_style == "true",
    )


def _parameters(url: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            raise wrong(url, f"no parameter {name!r}; there are {', '.join(PARAMETERS)}")
        if name in found:
            raise wrong(url, f"{name} is given twice")
        found[name] = value
    return found


def _check_endpoint(url: str, endpoint: str) -> None:
    reason = "endpoint: expected http://HOST:PORT or https://HOST"
    try:
        parts = urlsplit(endpoint)
        known = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise wrong(url, reason) from error
    surplus = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not known or surplus:
        raise wrong(url, reason)
