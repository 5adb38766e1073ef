"""Entity tags in conditional requests (RFC 9110, sections 8.8.3 and 13.1.2)."""

import re
from collections.abc import Sequence
from typing import Final

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST: Final = re.compile(
    rf"[ \t,]*{_TAG.pattern}[ \t]*(?:,[ \t]*(?:{_TAG.pattern}[ \t]*)?)*", re.ASCII
)


def names(lines: Sequence[str], tag: str) -> bool:
    """Whether the If-None-Match of *lines* names *tag*, quoted and strong, or is `*`.

    Weak tags match by what they quote. A header that is no list of tags names nothing: its sender
    gets the whole answer, which is never wrong.
    """
    field = ",".join(lines).strip(" \t")
    if field == "*":
        return True
    if _LIST.fullmatch(field) is None:
        return False
    return tag in (each.removeprefix("W/") for each in _TAG.findall(field))
