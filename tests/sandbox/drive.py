"""Runs attacks one after another and looks after each: a process of its own, for any user.

    python -m tests.sandbox.drive WAY FOLDER < names

WAY is a level of isolation, for a pool, or `http`; FOLDER is an empty one, in which it works. The
names of attacks come as a JSON list. One JSON line for each goes out, `Verdict`, and a last one for
the end of it all.
"""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import AsyncIterator
from typing import cast

import msgspec
import uvloop

from loopai.sandbox import limits
from streams import messages
from tests.sandbox import target, watch
from tests.sandbox.attacks import attack as attack_
from tests.sandbox.attacks import catalogue

END = "the end: all cells closed"
TOKEN = "the-worker-s-own-token"  # noqa: S105 (a bait)
LIMITS = limits.Limits(load_ms_max=500)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`problems` is empty where the attack ended as it must and left no trace."""

    name: str
    kind: str
    problems: list[str]
    ms: float


class Drive:
    """Attacks *aim*, and asks *over* after each what is left."""

    def __init__(
        self, aim: target.Target, over: watch.Watch, host: attack_.Host, *, fresh: bool
    ) -> None:
        self._aim = aim
        self._over = over
        self._host = host
        self._fresh = fresh
        self._number = 0
        self._spoilt = 0

    async def settle(self, *, both: bool) -> None:
        """Fill the pool with cells of well-behaved programs; what there is then is the measure.

        In *both* languages, where there will be both: a pool keeps a blank cell for each.
        """
        calm = attack_.gives("a calm program", "return 1", 1)
        other = attack_.gives("a calm program", "return 1", 1, alone=True)
        if both:
            # Ended once, it has a spare from then on.
            text = "export const run = (value) => value === 'end' ? Deno.exit(0) : 1"
            other = msgspec.structs.replace(other, text=text, language="javascript")
        programs = (calm, other)
        for one in programs:
            await self._aim.attack(one, self._seen(one))
        await self._neighbour()
        for one in programs:  # again: a cell makes its spare when it has been asked
            await self._aim.attack(one, "end")
            await self._aim.attack(one, self._seen(one))
        await self._over.settled()

    async def run(self, name: str, attack: attack_.Attack) -> Verdict:
        begun = time.monotonic()
        attack = msgspec.structs.replace(attack, remark=f"# after {self._spoilt} that failed\n")
        if attack.ends == ("unloadable",):
            kind, problems = await self._load(attack)
        else:
            answer = await self._aim.attack(attack, self._seen(attack))
            kind, problems = answer.kind, judge(attack, answer)
            problems += await self._look(attack)
        problems += await self._neighbour()
        problems += await self._aim.ailments()
        problems += await self._over.unexpected()
        # What is left of it must not be held against the next: that gets another cell.
        self._spoilt += bool(problems)
        return Verdict(
            name=name, kind=kind, problems=problems, ms=(time.monotonic() - begun) * 1000
        )

    def _seen(self, attack: attack_.Attack) -> attack_.Host:
        text = "" if attack.alone else attack.text
        return msgspec.structs.replace(self._host, text=text)

    async def _load(self, attack: attack_.Attack) -> tuple[str, list[str]]:
        reason = await self._aim.load(attack)
        return ("unloadable", []) if reason else ("loaded", ["the program was taken in"])

    async def _look(self, attack: attack_.Attack) -> list[str]:
        """Only an executor that did not see the attack must be untouched by it."""
        if not self._fresh:
            return []
        calm = msgspec.structs.replace(attack, timeout_ms=attack_.LONG_MS)
        answer = await self._aim.attack(calm, "look")
        if answer.kind == "success" and answer.value == []:
            return []
        return [f"the next run sees: {answer}"[:500]]

    async def _neighbour(self) -> list[str]:
        self._number += 1
        answer = await self._aim.neighbour(attack_.NEIGHBOUR, self._number)
        words = sorted(str(self._number + i) for i in range(5))
        right = {"sum": sum(range(self._number)), "words": words, "files": []}
        return [] if answer.value == right else [f"the neighbour answers: {answer}"[:500]]


def judge(attack: attack_.Attack, answer: target.Answer) -> list[str]:
    """Say how *answer* differs from what *attack* expects."""
    wrong = [f"expected {' or '.join(attack.ends)}: {answer}"[:500]]
    if "refused" in attack.ends:
        fits = isinstance(answer.value, list) and answer.value[:1] == ["refused"]
        return [] if fits and answer.value[1] in attack.by else [f"{wrong[0]}; by {attack.by}"]
    if answer.kind not in attack.ends:
        return wrong
    if attack.value is not msgspec.UNSET and answer.value != attack.value:
        return [f"expected {attack.value!r}: {answer}"[:500]]
    if attack.error_type and answer.kind == "error" and answer.error_type != attack.error_type:
        return wrong
    return []


@contextlib.asynccontextmanager
async def _opened(way: str, folder: pathlib.Path) -> AsyncIterator[target.Target]:
    if way == "http":
        async with target.http_opened(folder, LIMITS) as opened:
            yield opened
    else:
        isolation = cast("messages.Isolation", way)  # the caller's word
        async with target.pool_opened(isolation, LIMITS) as pooled:
            yield pooled


async def main(way: str, folder: pathlib.Path, names: list[str]) -> None:
    # What else is said, such as by logs, is no verdict.
    out = os.dup(1)
    os.dup2(2, 1)
    home = folder / "home"
    home.mkdir()
    os.chdir(home)
    os.environ.update(HOME=str(home), TMPDIR=str(home), LOOPAI_TOKEN=TOKEN)
    secret = home / "secret"
    secret.write_text("the host's own secret")
    secret.chmod(0o644)
    stdlib = pathlib.Path(json.__file__).parents[1]
    host = attack_.Host(
        file=str(secret),
        stdlib=str(stdlib),
        python=os.readlink("/proc/self/exe"),  # noqa: PTH115 (no path of ours)
        pid=os.getpid(),
    )
    places = [pathlib.Path(path) for path in ("/", "/tmp", "/var/tmp")]
    known = catalogue.named(areas=catalogue.PYTHON | catalogue.JAVASCRIPT)
    over = watch.Watch(
        folders=[home, pathlib.Path("/dev/shm")], named=[*places, stdlib / "json", folder]
    )
    before = watch.descriptors()
    with over:
        async with _opened(way, folder) as aim:
            drive = Drive(aim, over, host, fresh=way in {"batch", "call"})
            await drive.settle(both=any(known[name].language != "python" for name in names))
            for name in names:
                _tell(out, await drive.run(name, known[name]))
        begun = time.monotonic()
        # What the product around the cells has opened once and keeps is not theirs.
        over.expect(watch.descriptors() if way == "http" else before, cells=0)
        problems = await over.unexpected()
    _tell(out, Verdict(name=END, kind="", problems=problems, ms=(time.monotonic() - begun) * 1000))


def _tell(out: int, verdict: Verdict) -> None:
    os.write(out, msgspec.json.encode(verdict) + b"\n")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], pathlib.Path(sys.argv[2]), json.load(sys.stdin)))
