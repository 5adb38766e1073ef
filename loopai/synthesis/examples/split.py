"""Which examples are learned from and which are held out: seeded, stratified, no input in both."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

HELD_OUT_SHARE: Final = 0.2
HELD_OUT_MIN: Final = 10

Label = TypeVar("Label", bound=Hashable)


def hold_out(
    keys: Sequence[str], labels: Sequence[Hashable], seed: int
) -> tuple[list[int], list[int]]:
    """Indices to learn from and indices to hold out: a fifth of the inputs, of every label alike.

    Examples with equal *keys* (the input) are one input. Of a held-out one only the first example
    counts: copies are no further evidence, and would make the confidence bound a lie. Every label
    keeps at least one input to learn from.
    """
    groups = _groups_by_label(keys, labels, random.Random(seed))  # noqa: S311 (no secret)
    left = sum(map(len, groups.values()))
    target = max(round(left * HELD_OUT_SHARE), min(HELD_OUT_MIN, left // 2))
    seen: list[int] = []
    held: list[int] = []
    # Smallest labels first: they have the least room to make up for rounding.
    for label in sorted(groups, key=lambda label: len(groups[label])):
        members = groups[label]
        wanted = min(round((target - len(held)) * len(members) / left), len(members) - 1)
        left -= len(members)
        held.extend(group[0] for group in members[:wanted])
        seen.extend(index for group in members[wanted:] for index in group)
    return sorted(seen), sorted(held)


def folds(
    keys: Sequence[str], labels: Sequence[Hashable], count: int, seed: int
) -> list[list[int]]:
    """The indices dealt into *count* parts for cross-validation, equal inputs together."""
    groups = _groups_by_label(keys, labels, random.Random(seed))  # noqa: S311 (no secret)
    parts: list[list[int]] = [[] for _ in range(count)]
    turn = 0
    for members in groups.values():
        for group in members:
            parts[turn % count].extend(group)
            turn += 1
    return [sorted(part) for part in parts if part]


def _groups_by_label(
    keys: Sequence[str], labels: Sequence[Label], generator: random.Random
) -> dict[Label, list[list[int]]]:
    """Groups of equal inputs, shuffled, under the label of the first of each."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    groups: dict[Label, list[list[int]]] = defaultdict(list)
    for group in members.values():
        groups[labels[group[0]]].append(group)
    for listed in groups.values():
        generator.shuffle(listed)
    return groups
