"""docs/reference/api.md: every operation of /openapi.json."""

import json
from itertools import groupby
from typing import Any

from loopai import errors
from loopai.ingress.describe import document, rights
from loopai.ingress.describe.operation import Answer, Operation

_HEAD = """\
# Operations

Every operation of the HTTP API, made from the same tables as `/openapi.json` by `make docs`.
[HTTP API](http.md) explains what they mean, [error codes](errors.md) what to do about each.
`/swagger` shows all of this in a browser, where it can be tried.

Operations of the API take the headers `X-Api-Version` (there is only 1) and `traceparent` (W3C
Trace Context). Any request may be answered {always}; any of the API {api}.
"""


def page() -> str:
    always, api = (_listed(codes) for codes in (document.ALWAYS, document.API))
    parts = [_HEAD.format(always=always, api=api)]
    for tag, operations in groupby(document.OPERATIONS, key=lambda each: each.tag):
        parts.append(f"## {tag.capitalize()}\n\n{document.TAGS[tag]}\n")
        parts += map(_operation, operations)
    return "\n".join(parts)


def _operation(of: Operation) -> str:
    lines = [f"### {of.summary}\n", f"`{of.method} {of.path}`\n"]
    if of.text:
        lines.append(f"{of.text}\n")
    lines.append(f"{rights.permission(of)}\n")
    taken = document.parameters(of)
    if taken:
        lines.append("| parameter | in | |\n|---|---|---|")
        lines += [f"| `{each.name}` | {each.where} | {each.summary} |" for each in taken]
        lines.append("")
    if of.body:
        media = " or ".join(f"`{each}`" for each in of.body.media)
        optional = "" if of.body.required else ", or nothing"
        lines += [f"Takes {media}{optional}, such as\n", _shown(of.body.example)]
    lines += ["| status | |\n|---|---|", *map(_answer, of.answers)]
    common = document.ALWAYS + (document.API if of.is_api else ())
    own = [code for code in document.codes(of) if code not in common]
    by_status = sorted(own, key=lambda code: errors.CODES[code].status)
    for status, codes in groupby(by_status, key=lambda code: errors.CODES[code].status):
        lines.append(f"| {status} | {_listed(codes)} |")
    return "\n".join(lines) + "\n"


def _answer(of: Answer) -> str:
    also = " Also as `text/event-stream`." if of.as_events and of.type else ""
    headers = "".join(f", `{each}`" for each in of.headers)
    return f"| {of.status} | {of.summary}{' With' + headers[1:] + '.' if headers else ''}{also} |"


def _shown(example: Any) -> str:  # any: JSON
    return f"```json\n{json.dumps(example, ensure_ascii=False, indent=2)}\n```\n"


def _listed(codes: Any) -> str:  # any: an iterable of codes
    return ", ".join(f"`{code}`" for code in codes)
