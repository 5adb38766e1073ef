"""Labelled examples for `loopai task create`, from JSON, JSON lines, CSV or TSV."""

from pathlib import Path

import msgspec

from loopai.cli import document, failure, labelled, table
from streams import messages


def read(path: Path) -> tuple[messages.Example, ...]:
    """The examples in *path*: what its ending says, a table's last column being the output."""
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv", ".tab"}:
        return labelled.examples(table.read(path))
    body = document.read(path)
    try:
        if suffix in {".jsonl", ".ndjson"}:
            found = tuple(msgspec.json.Decoder(messages.Example).decode_lines(body))
        else:
            found = msgspec.json.decode(body, type=tuple[messages.Example, ...])
    except msgspec.DecodeError as error:
        raise failure.Failure(
            f'{path}: expected examples of the form {{"input": …, "output": …}}: {error}'
        ) from error
    except RecursionError as error:
        raise failure.Failure(f"{path}: {document.TOO_DEEP}") from error
    if not found:
        raise failure.Failure(f"{path} holds no examples")
    return found
