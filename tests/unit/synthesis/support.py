"""Tasks to generate from, and a runner that really runs programs: a fresh interpreter."""

# ruff: noqa: S311 (made-up data needs a seed, not secrecy)

import asyncio
import datetime as dt
import json
import random
import sys
from collections.abc import Sequence

import msgspec

from streams import messages

CHILD = """
import json, sys, time
code, inputs = json.load(sys.stdin)
space = {}
exec(compile(code, "program", "exec"), space)
said = []
for text in inputs:
    start = time.perf_counter()
    try:
        output = json.dumps(space["run"](json.loads(text)), allow_nan=False)
        said.append(["success", output, "", (time.perf_counter() - start) * 1000])
    except Exception as error:
        said.append(["error", None, f"{type(error).__name__}: {error}", 0.0])
json.dump(said, sys.stdout)
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    output: bytes | None
    message: str
    run_ms: float


async def run_in_subprocess(code: str, inputs: Sequence[bytes], timeout_ms: float) -> list[Outcome]:
    """Run *code* in an isolated interpreter, without this project's packages."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    given = json.dumps([code, [text.decode() for text in inputs]]).encode()
    said, _ = await process.communicate(given)
    return [
        Outcome(
            kind=kind,
            output=None if output is None else output.encode(),
            message=message,
            run_ms=run_ms,
        )
        for kind, output, message, run_ms in json.loads(said)
    ]


def task(
    pairs: Sequence[tuple[object, object]], *, output_schema: object = None, **fields: str
) -> messages.TaskSpecification:
    """A task of these examples."""
    then = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return messages.TaskSpecification(
        id="0198c0de-0000-7000-8000-000000000000",
        tenant="default",
        name=fields.get("name", "task"),
        description=fields.get("description", ""),
        output_schema=msgspec.Raw(json.dumps(output_schema or {}).encode()),
        examples=tuple(example(given, wanted) for given, wanted in pairs),
        created_at=then,
        updated_at=then,
    )


def example(given: object, wanted: object) -> messages.Example:
    return messages.Example(
        input=msgspec.Raw(json.dumps(given).encode()),
        output=msgspec.Raw(json.dumps(wanted).encode()),
    )


def load(code: str):
    """The program's `run`, in this process: for tests of many inputs."""
    space: dict[str, object] = {}
    exec(compile(code, "program", "exec"), space)  # noqa: S102 (our own program)
    return space["run"]


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Made-up complaints, thanks and questions, each with words of its own and some noise."""
    generator = random.Random(seed)
    words = {
        "complaint": [
            "broken",
            "late",
            "refund",
            "terrible",
            "damaged",
            "angry",
            "never",
            "again",
            "missing",
            "wrong",
        ],
        "thanks": [
            "great",
            "thank",
            "you",
            "lovely",
            "perfect",
            "quick",
            "happy",
            "wonderful",
            "best",
            "love",
        ],
        "question": [
            "how",
            "when",
            "where",
            "does",
            "which",
            "can",
            "what",
            "size",
            "colour",
            "delivery",
        ],
    }
    noise = [
        "the",
        "order",
        "my",
        "it",
        "parcel",
        "shoes",
        "yesterday",
        "shop",
        "came",
        "and",
        "a",
        "is",
        "for",
        "i",
        "this",
    ]
    pairs = []
    for _ in range(count):
        label = generator.choice(sorted(words))
        said = generator.choices(words[label], k=3) + generator.choices(noise, k=6)
        generator.shuffle(said)
        mark = {"complaint": "!", "thanks": ".", "question": "?"}[label]
        pairs.append((" ".join(said) + mark, label))
    return pairs


def houses(count: int, seed: int) -> list[tuple[dict[str, object], float]]:
    """Made-up houses and their prices: numbers, a category, a flag, and values missing."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        size, rooms = generator.uniform(40, 200), generator.randint(1, 8)
        town = generator.choice(["Ghent", "Namur", "Liège"])
        garden = generator.random() < 0.5
        extra = {"Ghent": 90.0, "Namur": 20.0, "Liège": 0.0}[town]
        price = 3.0 * size + 5.0 * rooms + extra + 30.0 * garden + generator.gauss(0, 3)
        known = None if generator.random() < 0.1 else rooms
        row = {"size": size, "rooms": known, "town": town, "garden": garden}
        if generator.random() < 0.1:
            del row["rooms"]
        rows.append((row, price))
    return rows
