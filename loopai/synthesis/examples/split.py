"""Which examples are learned from and which are held out: seeded, stratified, no input in both."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

HELD_OUT_SHARE: Final = 0.2
HELD_OUT_MIN: Final = 10

Label = TypeVar("Label", bound=Hashable)


def hold_out(keys: Sequence[str], labels: Sequence[Hashable], seed: int) -> list[int]:
    """Indices to hold out: a fifth, at least 10 where possible, the same share of every label.

    Examples with equal *keys* (the input) stay together. Every label keeps at least one group of
    equal inputs to learn from, so a label with a single input is not held out at all.
    """
    groups = _groups_by_label(keys, labels, random.Random(seed))  # noqa: S311 (no secret)
    target = max(round(len(keys) * HELD_OUT_SHARE), min(HELD_OUT_MIN, len(keys) // 2))
    held: list[int] = []
    # Smallest labels first: they have the least room to make up for rounding.
    labels_left = sorted(groups, key=lambda label: sum(map(len, groups[label])))
    examples_left = len(keys)
    for label in labels_left:
        size = sum(map(len, groups[label]))
        wanted = round((target - len(held)) * size / examples_left)
        examples_left -= size
        taken: list[int] = []
        for group in groups[label][:-1]:
            if len(taken) >= wanted:
                break
            taken.extend(group)
        held.extend(taken)
    return sorted(held)


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
