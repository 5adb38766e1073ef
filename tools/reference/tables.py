"""The tables of errors and of settings."""

from loopai import errors, settings
from tools.reference.remedies import REMEDIES
from tools.reference.words import WORDS


def errors_table() -> str:
    """By status. KeyError: a code without a line in `remedies`."""
    rows = [
        f"| `{name}` | {code.status} | {code.title} | {REMEDIES[name]} |\n"
        for name, code in sorted(errors.CODES.items(), key=lambda each: each[1].status)
    ]
    return "| code | status | when | what to do |\n|---|---|---|---|\n" + "".join(rows)


def settings_table() -> str:
    """In the order of `words`. KeyError: a setting without an entry there."""
    missing = set(settings.Settings.__struct_fields__) - WORDS.keys()
    if missing:
        raise KeyError(f"tools/reference/words.py lacks {', '.join(sorted(missing))}")
    default = settings.Settings()
    rows = [
        f"| `LOOPAI_{name.upper()}` | {_shown(getattr(default, name))} | {readers} | {text} |\n"
        for name, (readers, text) in WORDS.items()
    ]
    return "| variable | default | read by | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _shown(value: object) -> str:
    if value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= settings.MIB and value % settings.MIB == 0:
        mib = value // settings.MIB
        size = f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"
        return f"`{value}` ({size})"
    return f"`{value}`"
