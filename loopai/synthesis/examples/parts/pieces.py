"""Pieces of a text: runs of 2 to 5 characters, across word boundaries."""

from loopai.synthesis.examples.parts.words import plain

PIECE_CHARACTERS = (2, 3, 4, 5)


def pieces(text: str) -> list[str]:
    """Every run of 2 to 5 characters, each once, in order."""
    spaced = " " + " ".join(plain(text).split()) + " "
    runs = [
        spaced[start : start + size]
        for size in PIECE_CHARACTERS
        for start in range(len(spaced) - size + 1)
    ]
    return list(dict.fromkeys(runs))
