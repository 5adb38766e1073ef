"""Families of models, tried from the simplest on, and the choice among them by cross-validation."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from scipy import sparse
from sklearn import ensemble, exceptions, linear_model, naive_bayes, svm, tree

from loopai.synthesis import engine
from loopai.synthesis.examples import features, goal, inputs, split

FOLDS: Final = 5
FOLD_EXAMPLES_MAX: Final = 2_000
"""Choosing needs fewer examples than fitting; more than this only costs time."""
REPEATED_BELOW: Final = 400
REPEATS: Final = 2
"""With fewer examples than this one division into folds is too coarse, so two are averaged."""

GAIN_ERRORS_MIN: Final = 1.0
WIDE_COLUMNS_MIN: Final = 100
"""With more columns a tree looks at a third of them for each branch, or fitting takes too long."""
FEW_CLASSES_MAX: Final = 10
"""With more classes every fit takes long, and fewer settings are tried."""
LEAF_NUMBERS_MAX: Final = 30_000
"""About 200 KB of program."""

View = Literal["words", "pieces", "table"]
Form = Literal["linear", "tree", "trees"]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of model with its settings."""

    name: str
    view: View
    form: Form
    make: Callable[[int], Any]  # Any: scikit-learn has no types; a seed in, an estimator out


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """The seen inputs as the families want them."""

    words: features.Terms | None
    pieces: features.Terms | None
    table: features.Table | None

    def matrix(self, family: Family) -> Any:  # Any: ndarray or sparse matrix
        if family.view == "table":
            assert self.table is not None  # noqa: S101 (families are only tried where they fit)
            return self.table.scaled if family.form == "linear" else self.table.raw
        terms = self.terms(family)
        return beside(terms, self.table)

    def terms(self, family: Family) -> features.Terms:
        terms = self.words if family.view == "words" else self.pieces
        assert terms is not None  # noqa: S101 (families are only tried where they fit)
        return terms


def views(columns: Sequence[inputs.Column]) -> Views:
    return Views(
        words=features.terms(columns, "words"),
        pieces=features.terms(columns, "pieces"),
        table=features.table(columns),
    )


def beside(terms: features.Terms, table: features.Table | None) -> Any:  # Any: sparse matrix
    """The terms, and next to them the numbers and categories."""
    if table is None:
        return terms.matrix
    scaled = sparse.csr_matrix(table.scaled * features.NUMBER_SCALE)
    return sparse.hstack([terms.matrix, scaled]).tocsr()


def families(views: Views, wanted: goal.Goal) -> list[Family]:
    """What may be tried, those with the smallest programs first."""
    tried = []
    if views.words is not None:
        tried += _text("words", wanted, mixed=views.table is not None)
    if views.pieces is not None:
        tried += _text("pieces", wanted, mixed=views.table is not None)
    if views.table is not None:
        wide = views.table.raw.shape[1] > WIDE_COLUMNS_MIN
        tried += _numbers(wide=wide) if wanted.kind == "number" else _classes(wanted, wide=wide)
    return tried


def choose(
    views: Views, wanted: goal.Goal, keys: Sequence[str], seed: int
) -> tuple[Family, float, int]:
    """The family to use, its mean loss in cross-validation, and how many were tried.

    The loss is 1 for a wrong class, and the absolute error for numbers: hits within the tolerance
    are too coarse to choose by. Of one kind the best is taken; another kind, whose programs are
    larger, must beat it by a standard error of the difference, or chance would choose.
    """
    tried = families(views, wanted)
    if not tried:
        raise engine.CannotGenerate(
            "INVALID_REQUEST", "the texts of the examples have no words or traits in common"
        )
    chosen: Any = np.arange(len(keys))  # Any: ndarray of indices
    if len(keys) > FOLD_EXAMPLES_MAX:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.choice(len(keys), FOLD_EXAMPLES_MAX, replace=False))
    rounds = REPEATS if len(chosen) < REPEATED_BELOW else 1
    parts = [
        part
        for turn in range(rounds)
        for part in split.folds(
            [keys[i] for i in chosen], [wanted.strata[i] for i in chosen], FOLDS, seed + turn
        )
    ]
    losses = [_losses(views, family, wanted, chosen, parts, seed=seed) for family in tried]
    best: dict[tuple[View, Form], int] = {}
    for index, family in enumerate(tried):
        kind = (family.view, family.form)
        if kind not in best or losses[index].mean() < losses[best[kind]].mean():
            best[kind] = index
    winner, *others = best.values()
    for other in others:
        gain = losses[winner] - losses[other]
        if gain.mean() > GAIN_ERRORS_MIN * gain.std() / math.sqrt(len(gain)):
            winner = other
    return tried[winner], float(losses[winner].mean()), len(tried)


def fit(family: Family, matrix: Any, targets: Any, seed: int) -> Any:  # Any: as above
    """A fitted estimator."""
    estimator = family.make(seed)
    with warnings.catch_warnings():
        # A model that has not converged yet is judged like any other.
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        return estimator.fit(matrix, targets)


def _losses(
    views: Views,
    family: Family,
    wanted: goal.Goal,
    chosen: Any,  # Any: ndarray of indices
    parts: Sequence[Sequence[int]],
    *,
    seed: int,
) -> Any:  # Any: ndarray
    """For each of *chosen* its loss when it was not fitted to, averaged over the rounds."""
    matrix = views.matrix(family)[chosen]
    targets = np.array(wanted.targets)[chosen]
    total, count = np.zeros(len(chosen)), np.zeros(len(chosen))
    for part in parts:
        learn = np.setdiff1d(np.arange(len(chosen)), part)
        if len(np.unique(targets[learn])) > 1:
            guesses = fit(family, matrix[learn], targets[learn], seed).predict(matrix[part])
        else:  # nothing to tell apart here
            guesses = np.full(len(part), targets[learn][0])
        missed = guesses - targets[part]
        total[part] += np.abs(missed) if wanted.kind == "number" else missed != 0
        count[part] += 1
    return total / count


def _text(view: View, wanted: goal.Goal, *, mixed: bool) -> list[Family]:
    def family(name: str, make: Callable[[int], Any]) -> Family:  # Any: as above
        return Family(name=name, view=view, form="linear", make=make)

    if wanted.kind == "number":
        return [
            family(f"ridge regression (alpha {alpha:g})", _ridge(alpha))
            for alpha in (3.0, 1.0, 0.3, 0.1)
        ]
    tried = []
    if not mixed:  # it takes no negative numbers
        tried.append(
            family("complement naive Bayes", lambda _: naive_bayes.ComplementNB(alpha=0.3))
        )
    few = len(wanted.classes) <= FEW_CLASSES_MAX
    for weight in (None, "balanced") if few else (None,):
        told = ", balanced classes" if weight else ""
        tried += [
            family(f"linear support vector machine (C {c:g}{told})", _svm(c, weight))
            for c in ((0.3, 1.0, 10.0) if few else (1.0,))
        ]
    if len(wanted.classes) == 2:  # noqa: PLR2004 (more classes take too long for what they add)
        tried += [
            family(f"logistic regression (C {c:g}, balanced classes)", _logistic_text(c))
            for c in (10.0, 100.0)
        ]
    return tried


def _classes(wanted: goal.Goal, *, wide: bool) -> list[Family]:
    def family(name: str, form: Form, make: Callable[[int], Any]) -> Family:  # Any: as above
        return Family(name=name, view="table", form=form, make=make)

    looked_at = 0.3 if wide else None
    # Every leaf carries a number for each class: more classes, fewer trees and leaves.
    classes = len(wanted.classes)
    trees = max(10, min(40, 400 // classes))
    leaves = max(8, min(64, LEAF_NUMBERS_MAX // (trees * classes)))
    tried = [
        family(f"logistic regression (C {c:g})", "linear", _logistic(c)) for c in (0.1, 1.0, 10.0)
    ]
    tried.append(
        family(
            "decision tree",
            "tree",
            lambda seed: tree.DecisionTreeClassifier(
                max_depth=4, min_samples_leaf=3, random_state=seed
            ),
        )
    )
    tried.append(
        family(
            "random forest",
            "trees",
            lambda seed: ensemble.RandomForestClassifier(
                trees, max_leaf_nodes=leaves, random_state=seed
            ),
        )
    )
    if len(wanted.classes) == 2:  # noqa: PLR2004 (each further class multiplies the trees)
        tried.append(
            family(
                "gradient boosted trees",
                "trees",
                lambda seed: ensemble.GradientBoostingClassifier(
                    n_estimators=60,
                    max_depth=3,
                    subsample=0.8,
                    max_features=looked_at,
                    random_state=seed,
                ),
            )
        )
    return tried


def _numbers(*, wide: bool) -> list[Family]:
    def family(name: str, form: Form, make: Callable[[int], Any]) -> Family:  # Any: as above
        return Family(name=name, view="table", form=form, make=make)

    looked_at = 0.3 if wide else None
    return [
        *(
            family(f"ridge regression (alpha {alpha:g})", "linear", _ridge(alpha))
            for alpha in (100.0, 30.0, 10.0, 1.0, 0.1, 0.001)
        ),
        family(
            "decision tree",
            "tree",
            lambda seed: tree.DecisionTreeRegressor(
                max_depth=4, min_samples_leaf=3, random_state=seed
            ),
        ),
        family(
            "random forest",
            "trees",
            lambda seed: ensemble.RandomForestRegressor(
                40,
                max_leaf_nodes=64,
                min_samples_leaf=2,
                max_features=looked_at,
                random_state=seed,
            ),
        ),
        family(
            "gradient boosted trees",
            "trees",
            lambda seed: ensemble.GradientBoostingRegressor(
                n_estimators=100,
                max_depth=3,
                subsample=0.8,
                max_features=looked_at,
                random_state=seed,
            ),
        ),
    ]


# scikit-learn's estimators are made by functions of the seed so that a family is a plain value.


def _ridge(alpha: float) -> Callable[[int], Any]:  # Any: as above
    return lambda _: linear_model.Ridge(alpha=alpha)


def _svm(c: float, weight: str | None) -> Callable[[int], Any]:  # Any: as above
    return lambda seed: svm.LinearSVC(C=c, class_weight=weight, random_state=seed, max_iter=3000)


def _logistic_text(c: float) -> Callable[[int], Any]:  # Any: as above
    return lambda seed: linear_model.LogisticRegression(
        C=c, class_weight="balanced", solver="liblinear", random_state=seed
    )


def _logistic(c: float) -> Callable[[int], Any]:  # Any: as above
    return lambda _: linear_model.LogisticRegression(C=c, max_iter=1000)
