"""Matrices of features: what a model is fitted to, and what of it the program must carry."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from scipy import sparse

from loopai.synthesis.examples import inputs
from loopai.synthesis.examples.parts import pieces, traits, words

TERM_TEXTS_MIN: Final = 2
"""A term in a single text says nothing about others."""
TERM_CHARACTERS_MAX: Final = 60
TERMS_FITTED_MAX: Final = 30_000
TRAIT_SCALE: Final = 0.1
"""Terms share a vector of length 1, so traits of full size would drown them."""
NUMBER_SCALE: Final = 0.3
"""The same for the columns that stand beside a text."""
CLIP: Final = 8.0
"""Standard deviations after which a number counts as an outlier and pulls no further."""

NUMBER_MAX: Final = 1e30
"""Larger numbers are learned from as this one: trees are fitted in single precision."""

Texts = Literal["words", "pieces"]
"""`pieces` has the words too."""


class Number(msgspec.Struct, frozen=True):
    path: inputs.Path
    missing: float
    """Stands in for a value that is absent: the median."""
    mean: float
    spread: float


class Category(msgspec.Struct, frozen=True):
    path: inputs.Path
    categories: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a table: first the numbers, then a flag for each category."""

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    raw: Any  # Any: ndarray, which msgspec does not know; numbers as they are, for trees
    scaled: Any  # Any: as above; numbers standardised and clipped, for linear models


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The features of the text: terms with their rarity, then traits."""

    texts: Texts
    paths: tuple[inputs.Path, ...]
    terms: tuple[str, ...]
    rarity: tuple[float, ...]
    traits: tuple[str, ...]
    matrix: Any  # Any: sparse matrix, terms and then traits


def table(columns: Sequence[inputs.Column]) -> Table | None:
    """The numbers and categories of *columns*; None where there are only texts."""
    numeric = [column for column in columns if column.kind == "number"]
    named = [column for column in columns if column.kind == "category"]
    if not numeric and not named:
        return None
    numbers, blocks_raw, blocks_scaled = [], [], []
    for column in numeric:
        stats, raw = _number(column)
        numbers.append(stats)
        blocks_raw.append(raw)
        blocks_scaled.append(np.clip((raw - stats.mean) / stats.spread, -CLIP, CLIP))
    for column in named:
        keys = [inputs.category_key(value) for value in column.values]
        flags = [np.array([float(key == known) for key in keys]) for known in column.categories]
        blocks_raw.extend(flags)
        blocks_scaled.extend(flags)
    return Table(
        numbers=tuple(numbers),
        categories=tuple(Category(column.path, column.categories) for column in named),
        raw=np.column_stack(blocks_raw),
        scaled=np.column_stack(blocks_scaled),
    )


def _number(column: inputs.Column) -> tuple[Number, Any]:  # Any: ndarray
    present = [_float(value) for value in column.values if value is not None]
    median = float(np.median(present))
    filled = np.array([median if value is None else _float(value) for value in column.values])
    spread = float(f"{float(np.std(filled)):.4g}") or 1.0
    # Rounded here and not when the program is written: the model is fitted to what it will get.
    missing = near(median, spread)
    raw = np.array([missing if value is None else _float(value) for value in column.values])
    return Number(column.path, missing, near(float(np.mean(filled)), spread), spread), raw


def _float(value: float) -> float:
    try:
        return max(-NUMBER_MAX, min(NUMBER_MAX, float(value)))
    except OverflowError:  # an integer of more than 308 digits
        return math.copysign(NUMBER_MAX, value)


def near(value: float, spread: float) -> float:
    """Round to a thousandth of *spread*, which may be far finer than 4 digits of the value."""
    digits = 3 - math.floor(math.log10(spread))
    return round(value, min(max(digits, -300), 300))


def joined(columns: Sequence[inputs.Column]) -> list[str] | None:
    """The texts of each example in one; None where there are none."""
    texts = [column for column in columns if column.kind == "text"]
    if not texts:
        return None
    return ["\n".join(row) for row in zip(*(map(_text, c.values) for c in texts), strict=True)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def terms(columns: Sequence[inputs.Column], texts: Texts) -> Terms | None:
    """Terms and traits of the texts of *columns*; None where no text tells anything."""
    documents = joined(columns)
    if documents is None:
        return None
    found = [tagged(document, texts) for document in documents]
    counts = Counter(term for document in found for term in document)
    common = [
        term
        for term, count in counts.items()
        if count >= TERM_TEXTS_MIN and len(term) <= TERM_CHARACTERS_MAX
    ]
    common.sort(key=lambda term: (-counts[term], term))
    kept = tuple(common[:TERMS_FITTED_MAX])
    held = Counter(trait for document in documents for trait in traits.traits(document))
    telling = tuple(t for t, n in held.items() if TERM_TEXTS_MIN <= n < len(documents))
    if not kept and not telling:
        return None
    rarity = tuple(
        float(f"{1 + math.log((1 + len(documents)) / (1 + counts[term])):.4g}") for term in kept
    )
    paths = tuple(column.path for column in columns if column.kind == "text")
    return Terms(
        texts=texts,
        paths=paths,
        terms=kept,
        rarity=rarity,
        traits=telling,
        matrix=_matrix(documents, found, kept, rarity, telling),
    )


def pruned(terms: Terms, columns: Sequence[inputs.Column], kept: Sequence[int]) -> Terms:
    """Only the terms at *kept*: the lengths change with them, so the matrix is made anew."""
    documents = joined(columns) or []
    names = tuple(terms.terms[index] for index in kept)
    rarity = tuple(terms.rarity[index] for index in kept)
    found = [tagged(document, terms.texts) for document in documents]
    return msgspec.structs.replace(
        terms,
        terms=names,
        rarity=rarity,
        matrix=_matrix(documents, found, names, rarity, terms.traits),
    )


def tagged(document: str, texts: Texts) -> list[str]:
    """The terms of a text. A piece begins with a tab, which no word can: the two never meet."""
    found = words.words(document)
    if texts == "pieces":
        found += ["\t" + piece for piece in pieces.pieces(document)]
    return found


def _matrix(
    documents: Sequence[str],
    found: Sequence[Sequence[str]],
    names: Sequence[str],
    rarity: Sequence[float],
    telling: Sequence[str],
) -> Any:  # Any: scipy has no types
    place = {name: index for index, name in enumerate(names)}
    trait_place = {name: len(names) + index for index, name in enumerate(telling)}
    data: list[float] = []
    indices: list[int] = []
    starts = [0]
    for document, present in zip(documents, found, strict=True):
        own = [place[term] for term in present if term in place]
        length = math.sqrt(sum(rarity[index] ** 2 for index in own)) or 1.0
        indices += own
        data += [rarity[index] / length for index in own]
        held = [trait_place[t] for t in traits.traits(document) if t in trait_place]
        indices += held
        data += [TRAIT_SCALE] * len(held)
        starts.append(len(indices))
    shape = (len(documents), len(names) + len(telling))
    return sparse.csr_matrix((data, indices, starts), shape=shape)
