"""Words of a text, and pairs of neighbouring words."""

import itertools
import re

TEXT_CHARACTERS_MAX = 20_000
WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+|[^\w\s]|_+")
DIGIT = re.compile(r"\d")


def plain(text: str) -> str:
    """Lower case, with every digit as 0: the shape of a number tells more than the number."""
    return DIGIT.sub("0", text[:TEXT_CHARACTERS_MAX].lower())


def words(text: str) -> list[str]:
    """Words, numbers, punctuation marks and pairs of neighbours, each once, in order."""
    single = WORD.findall(plain(text))
    pairs = [f"{left} {right}" for left, right in itertools.pairwise(single)]
    return list(dict.fromkeys(single + pairs))
