"""Fitted models, free of scikit-learn: plain numbers that a program can carry."""

from typing import Any, Final

import msgspec
import numpy as np

from loopai.synthesis.examples import families, features, goal

ENTRY_BYTES: Final = 14
WEIGHT_BYTES: Final = 9
TERMS_BYTES_MAX: Final = 300_000
TERMS_MAX: Final = 4_000
"""8,000 entries of a table take 50 ms to compile, and a cold start has 100 ms in all."""
TERMS_MIN: Final = 100


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """`bias + weights · features`, one row for each score."""

    bias: tuple[float, ...]
    weights: Any  # Any: ndarray, scores by features
    terms: features.Terms | None
    table: features.Table | None


class Leaf(msgspec.Struct, frozen=True):
    scores: tuple[float, ...]


class Branch(msgspec.Struct, frozen=True):
    """`row[column] <= threshold` goes low."""

    column: int
    threshold: float
    low: "Branch | Leaf"
    high: "Branch | Leaf"


class Trees(msgspec.Struct, frozen=True, kw_only=True):
    """`bias +` the sum of what the trees say."""

    bias: tuple[float, ...]
    trees: tuple[Branch | Leaf, ...]
    table: features.Table


def linear(
    family: families.Family,
    views: families.Views,
    columns: Any,  # Any: tuple of inputs.Column
    wanted: goal.Goal,
    seed: int,
) -> Linear:
    """Fit a linear family to all that was seen; terms that hardly pull are pruned, then refit."""
    targets = np.array(wanted.targets)
    if family.view == "table":
        estimator = families.fit(family, views.matrix(family), targets, seed)
        weights, bias = _weights(estimator)
        return Linear(bias=bias, weights=weights, terms=None, table=views.table)
    terms = views.terms(family)
    estimator = families.fit(family, families.beside(terms, views.table), targets, seed)
    weights, bias = _weights(estimator)
    limit = _terms_max(len(bias))
    if len(terms.terms) > limit:
        terms = features.pruned(terms, columns, _strongest(terms, weights, limit))
        estimator = families.fit(family, families.beside(terms, views.table), targets, seed)
        weights, bias = _weights(estimator)
    return Linear(bias=bias, weights=weights, terms=terms, table=views.table)


def trees(family: families.Family, views: families.Views, wanted: goal.Goal, seed: int) -> Trees:
    """Fit a family of trees to all that was seen."""
    matrix = views.matrix(family)
    estimator = families.fit(family, matrix, np.array(wanted.targets), seed)
    table = views.table
    assert table is not None  # noqa: S101 (trees are only tried on tables)
    if not hasattr(estimator, "estimators_"):
        fitted, scale = [estimator], 1.0
    elif hasattr(estimator, "learning_rate"):
        fitted, scale = [row[0] for row in estimator.estimators_], estimator.learning_rate
    else:
        fitted, scale = list(estimator.estimators_), 1.0 / len(estimator.estimators_)
    columns = [np.unique(column) for column in matrix.T]
    grown = tuple(_tree(one.tree_, scale, wanted, columns) for one in fitted)
    return Trees(bias=_bias(estimator, matrix, fitted, scale, wanted), trees=grown, table=table)


def _terms_max(scores: int) -> int:
    room = TERMS_BYTES_MAX // (ENTRY_BYTES + WEIGHT_BYTES * (1 + scores))
    return max(TERMS_MIN, min(TERMS_MAX, room))


def _strongest(terms: features.Terms, weights: Any, limit: int) -> list[int]:  # Any: ndarray
    pull = np.abs(weights[:, : len(terms.terms)]).max(axis=0) * np.array(terms.rarity)
    order = np.argsort(-pull, kind="stable")[:limit]
    return sorted(int(index) for index in order)


def _weights(estimator: Any) -> tuple[Any, tuple[float, ...]]:  # Any: as above
    """Scores by features, and a bias for each score; one score where there are two classes."""
    if hasattr(estimator, "feature_log_prob_"):  # naive Bayes: a score for each class
        weights = estimator.feature_log_prob_
        if len(weights) == 2:  # noqa: PLR2004 (two classes: the difference says it all)
            weights = weights[1:] - weights[:1]
        return weights, (0.0,) * len(weights)
    weights = np.atleast_2d(estimator.coef_)
    bias = np.broadcast_to(np.atleast_1d(estimator.intercept_), (len(weights),))
    return weights, tuple(float(value) for value in bias)


def _tree(
    fitted: Any,  # Any: sklearn's Tree
    scale: float,
    wanted: goal.Goal,
    columns: list[Any],  # Any: ndarray, the different values of each column in order
) -> Branch | Leaf:
    def grow(node: int) -> Branch | Leaf:
        low, high = int(fitted.children_left[node]), int(fitted.children_right[node])
        if low < 0:
            return Leaf(_leaf(fitted.value[node], scale, wanted))
        column = int(fitted.feature[node])
        threshold = _rounded(float(fitted.threshold[node]), columns[column])
        return Branch(column, threshold, grow(low), grow(high))

    return grow(0)


def _rounded(threshold: float, values: Any) -> float:  # Any: ndarray
    """The shortest threshold with every value on the side where scikit-learn has it.

    It compares in single precision and programs in double: at 2.305 the two may disagree.
    """
    low = values[values.astype(np.float32).astype(float) <= threshold]
    high = values[len(low) :]
    for digits in (6, 7, 8, 9):
        short = float(f"{threshold:.{digits}g}")
        if (not len(low) or low[-1] <= short) and (not len(high) or short < high[0]):
            return short
    return float(low[-1]) if len(low) else threshold


def _leaf(value: Any, scale: float, wanted: goal.Goal) -> tuple[float, ...]:  # Any: ndarray
    """A number, or a share for each class; for two classes how far the second one is ahead."""
    shares = value[0]
    if wanted.kind == "number" or len(shares) == 1:
        return (float(shares[0]) * scale,)
    if len(shares) == 2:  # noqa: PLR2004
        return (float(shares[1] - shares[0]) * scale,)
    return tuple(float(share) * scale for share in shares)


def _bias(
    estimator: Any, matrix: Any, fitted: list[Any], scale: float, wanted: goal.Goal
) -> tuple[float, ...]:  # Any: as above
    """What boosting starts from: what the whole says beyond the sum of its trees."""
    if not hasattr(estimator, "learning_rate"):
        scores = len(wanted.classes) if len(wanted.classes) > 2 else 1  # noqa: PLR2004
        return (0.0,) * scores
    first = matrix[:1]
    said = estimator.predict if wanted.kind == "number" else estimator.decision_function
    grown = sum(float(one.predict(first)[0]) for one in fitted) * scale
    return (float(np.ravel(said(first))[0]) - grown,)
