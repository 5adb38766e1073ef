"""The code that docs/how-to/webhooks.md gives to receivers does what it says."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loopai.sandbox.runtimes import deno
from loopai.webhooks import signature

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "webhooks.md").read_text()
BODY = '{"type":"webhook.ping","data":{"text":"café"}}'.encode()


def code(language: str) -> str:
    """The one block of the page in *language*."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def signed(*secrets: str, seconds_ago: int = 0) -> dict[str, str]:
    return signature.headers(secrets, "id", int(time.time()) - seconds_ago, BODY)


SECRET, OTHER = signature.new_secret(), signature.new_secret()
# Made when they are tried: a signature is good for five minutes.
CASES: dict[str, Callable[[], tuple[str, dict[str, str], bytes, bool]]] = {
    "right": lambda: (SECRET, signed(SECRET), BODY, True),
    "rotated, the new one": lambda: (SECRET, signed(SECRET, OTHER), BODY, True),
    "rotated, the former": lambda: (OTHER, signed(SECRET, OTHER), BODY, True),
    "another secret": lambda: (OTHER, signed(SECRET), BODY, False),
    "another body": lambda: (SECRET, signed(SECRET), BODY + b" ", False),
    "another id": lambda: (SECRET, signed(SECRET) | {"webhook-id": "other"}, BODY, False),
    "too old": lambda: (SECRET, signed(SECRET, seconds_ago=3600), BODY, False),
    "no signature": lambda: (SECRET, signed(SECRET) | {"webhook-signature": ""}, BODY, False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_python_of_the_page_checks_signatures(case):
    """Right ones pass, and nothing else."""
    scope: dict[str, object] = {}
    exec(compile(code("python"), "webhooks.md", "exec"), scope)  # noqa: S102 (it is ours)
    secret, headers, body, good = CASES[case]()
    assert scope["verify"](headers, body, secret) is good


def test_the_javascript_of_the_page_checks_signatures(tmp_path):
    """All cases in one process; Deno has Node's modules."""
    (tmp_path / "verify.mjs").write_text(code("javascript"))
    made = [make() for make in CASES.values()]
    cases = [[secret, headers, body.decode()] for secret, headers, body, _ in made]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "main.mjs").write_text(
        'import { Buffer } from "node:buffer";\n'
        'import { readFileSync } from "node:fs";\n'
        'import { verify } from "./verify.mjs";\n'
        'const cases = JSON.parse(readFileSync(Deno.args[0], "utf8"));\n'
        "console.log(JSON.stringify(cases.map(([s, h, b]) => verify(h, Buffer.from(b), s))));\n"
    )
    program = deno.find()
    assert program is not None
    script, given = str(tmp_path / "main.mjs"), str(tmp_path / "cases.json")
    ran = subprocess.run(
        [program, "run", "--no-remote", "--allow-read", script, given],
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [good for *_, good in made]
