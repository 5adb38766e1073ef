"""The sections of docs/reference/cli.md: every command and option, as `--help` has them."""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from loopai.cli import main


def sections() -> str:
    """One for each command."""
    return "\n".join(_commands(typer.main.get_command(main.app), "loopai"))


def _commands(command: Any, name: str) -> Iterator[str]:  # any: click's, which typer has of its own
    inner = getattr(command, "commands", None)
    if inner is None:
        yield _one(command, name)
        return
    for each in inner.values():
        if not each.hidden:
            yield from _commands(each, f"{name} {each.name}")


def _one(command: Any, name: str) -> str:  # any: likewise
    context = typer.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `{name}`\n", f"```\n{name} {usage}\n```\n"]
    if command.help:
        lines.append(inspect.cleandoc(command.help).replace("\b", "").strip() + "\n")
    rows = [row for each in command.params if (row := _parameter(each, context))]
    if rows:
        lines += ["| | default | |\n|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _parameter(of: Any, context: typer.Context) -> str:  # any: likewise
    if getattr(of, "hidden", False):
        return ""
    names = ", ".join([*of.opts, *of.secondary_opts])
    value = "" if getattr(of, "is_flag", False) else f" {of.metavar or of.display_type(context)}"
    if of.param_type_name == "argument":
        names, value = of.metavar or of.name.upper(), ""
    default = of.default
    shown = "" if default is None or default in (False, ()) or callable(default) else f"`{default}`"
    if of.required:
        shown = "required"
    text = " ".join((getattr(of, "help", "") or "").split())
    cells = (f"`{names}{value}`", shown, text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
