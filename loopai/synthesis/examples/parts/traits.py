"""Traits of a text as a whole: its length, digits, capitals and marks."""

import re

NUMBER = re.compile(r"\d+")
SHOUT = re.compile(r"\b[A-Z]{2,}\b")
CURRENCY = re.compile(r"[$£€¥₹₩₽]")


def traits(text: str) -> list[str]:
    """Names of what holds for the text, counts as "digits >= 4" in powers of two."""
    found = []
    counts = (
        ("characters", len(text)),
        ("digits", sum(map(str.isdigit, text))),
        ("capitals", sum(map(str.isupper, text))),
        ("shouted words", len(SHOUT.findall(text))),
        ("exclamation marks", text.count("!")),
        ("question marks", text.count("?")),
        ("longest number", max(map(len, NUMBER.findall(text)), default=0)),
        ("currency signs", len(CURRENCY.findall(text))),
    )
    for name, count in counts:
        level = 1
        while level <= count and level <= 1024:  # noqa: PLR2004 (longer texts are all long)
            found.append(f"{name} >= {level}")
            level *= 2
    return found
