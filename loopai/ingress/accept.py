"""What `Accept` says of a media type (RFC 9110, 12.5.1)."""

import re
from typing import Final

_RANGE: Final = re.compile(r"\s*([^\s;,/]+)/([^\s;,/]+)\s*((?:;[^,]*)?)")
_QUALITY: Final = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def quality(accepted: str, media: str, *, named: bool = False) -> float:
    """What the most specific range of *accepted* that *media* is in gives it; 0: not wanted.

    With *named* ranges such as `*/*` do not count.
    """
    kind, _, subtype = media.partition("/")
    best, found = 1 if named else -1, 0.0
    for each in accepted.lower().split(","):
        part = _RANGE.fullmatch(each.rstrip())
        if part is None or part[1] not in {kind, "*"} or part[2] not in {subtype, "*"}:
            continue
        specific = (part[1] != "*") + (part[2] != "*")
        if specific > best:
            asked = _QUALITY.search(part[3])
            best, found = specific, float(asked[1]) if asked else 1.0
    return found
