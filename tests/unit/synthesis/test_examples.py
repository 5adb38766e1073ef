"""The examples engine from outside: tasks in, programs out."""

# ruff: noqa: S311 (made-up data needs a seed, not secrecy)

import ast
import itertools
import json
import math
import random
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from sklearn import datasets

from loopai.sandbox import modules
from loopai.synthesis import engine, evaluation, examples, screening
from loopai.synthesis.examples import families, goal, inputs, models, program
from tests.unit.synthesis import support


def only(pairs, *, seed=0, output_schema=None, **fields):
    """The one candidate, screened, with its `run`."""
    (candidate,) = examples.candidates(
        support.task(pairs, output_schema=output_schema, **fields), seed
    )
    screening.screen(candidate.code)
    return candidate, support.load(candidate.code)


def accuracy(run, pairs):
    return sum(run(given) == wanted for given, wanted in pairs) / len(pairs)


def refusal(pairs, **fields):
    with pytest.raises(engine.CannotGenerate) as caught:
        examples.candidates(support.task(pairs, **fields), 0)
    return caught.value


def rows(bunch, names):
    """scikit-learn's bundled data as pairs of an object and a class name."""
    labels = [str(name) for name in bunch.target_names]
    return [
        (dict(zip(names, map(float, row), strict=True)), labels[target])
        for row, target in zip(bunch.data, bunch.target, strict=True)
    ]


def divided(pairs, count, seed):
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:count], shuffled[count:]


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: {"message": text}])
def test_texts_are_told_apart(wrap):
    """A bare string and an object with one text are the same task."""
    pairs = [(wrap(text), label) for text, label in support.texts(600, 1)]
    candidate, run = only(pairs[:200])
    assert accuracy(run, pairs[200:]) >= 0.97
    assert candidate.engine == "examples"
    assert candidate.strategy == "ml"
    assert candidate.tolerance is None
    assert candidate.seen == 160
    assert len(candidate.held_out) == 40
    assert "cross-validation" in candidate.description


def test_pieces_of_words_are_used_where_words_do_not_repeat():
    """Endings tell the language of words that never come twice."""
    generator = random.Random(5)

    def word(ending):
        letters = "".join(generator.choices("bcdfglmnprst", k=5))
        return letters + ending

    pairs = [(word("heit"), "de") for _ in range(100)] + [(word("ness"), "en") for _ in range(100)]
    candidate, run = only(pairs)
    assert "pieces" in candidate.description
    assert run("grublheit") == "de"
    assert run("grublness") == "en"


def test_text_program_survives_any_text():
    """Empty, long, foreign and control characters are answered too, and quickly."""
    _, run = only(support.texts(100, 2))
    for text in ("", " ", "\0", "\u202e🦆", "x" * 1_000_000, "a " * 500_000, "İ" * 100):
        assert run(text) in {"complaint", "thanks", "question"}


def test_text_gives_numbers_too():
    """Stars from a review: words carry a number each."""
    generator = random.Random(3)
    points = {"awful": -2.0, "poor": -1.0, "fair": 0.5, "good": 1.5, "superb": 2.5}
    pairs = []
    for _ in range(300):
        said = generator.choices(sorted(points), k=4)
        pairs.append((" ".join(said), sum(points[word] for word in said) + 0.25))
    candidate, run = only(pairs[:200], output_schema={"type": "number"})
    right = [abs(run(text) - value) <= candidate.tolerance for text, value in pairs[200:]]
    assert np.mean(right) >= 0.6


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_breast_cancer_is_told_from_200_patients(seed):
    """The main job's demo: 30 numbers, two classes."""
    bunch = datasets.load_breast_cancer()
    learned, rest = divided(rows(bunch, list(map(str, bunch.feature_names))), 200, seed)
    _, run = only(learned, seed=seed)
    assert accuracy(run, rest) >= 0.93


def test_iris_and_wine_are_told_apart():
    """Three classes each."""
    for bunch, least in ((datasets.load_iris(), 0.9), (datasets.load_wine(), 0.9)):
        learned, rest = divided(rows(bunch, bunch.feature_names), 100, 0)
        _, run = only(learned)
        assert accuracy(run, rest) >= least


def test_arrays_of_numbers_are_read_as_fields():
    """Digits of 8 by 8 pixels, bare and inside an object; the classes stay integers."""
    bunch = datasets.load_digits()
    pairs = [
        (row.tolist(), int(digit)) for row, digit in zip(bunch.data, bunch.target, strict=True)
    ]
    learned, rest = divided(pairs, 600, 0)
    _, run = only(learned, output_schema={"type": "integer"})
    assert accuracy(run, rest) >= 0.92
    assert type(run(rest[0][0])) is int
    _, run = only([({"image": {"pixels": given}}, wanted) for given, wanted in learned])
    assert accuracy(run, [({"image": {"pixels": g}}, w) for g, w in rest]) >= 0.92


def test_prices_are_estimated_with_values_missing():
    """Numbers, a category, a flag; null and absent are filled in."""
    pairs = support.houses(400, 1)
    candidate, run = only(pairs[:250], output_schema={"type": "number", "minimum": 0})
    outputs = [price for _, price in pairs[:250]]
    low, high = np.percentile(outputs, [5, 95])
    assert candidate.tolerance == pytest.approx(0.1 * (high - low), rel=0.01)
    right = [abs(run(house) - price) <= candidate.tolerance for house, price in pairs[250:]]
    assert np.mean(right) >= 0.9
    assert isinstance(run({}), float)
    assert isinstance(run({"size": None, "rooms": "many", "town": "Atlantis"}), float)


def test_steps_are_fitted_by_trees():
    """No line follows a staircase: the boosted or single tree wins, for classes and numbers."""
    generator = random.Random(4)
    pairs = []
    for _ in range(300):
        x, y = generator.random(), generator.random()
        pairs.append(({"x": x, "y": y, "z": generator.random()}, (x > 0.5) != (y > 0.5)))
    candidate, run = only(pairs[:200])
    assert "tree" in candidate.description or "forest" in candidate.description
    assert accuracy(run, pairs[200:]) >= 0.9
    steps = [(given, 10.0 * (given["x"] > 0.5) + 5.5 * (given["y"] > 0.3)) for given, _ in pairs]
    candidate, run = only(steps[:200], output_schema={"type": "number"})
    right = [abs(run(given) - wanted) <= candidate.tolerance for given, wanted in steps[200:]]
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize("extra", [{}, {"codes": [1, 2]}])
def test_texts_and_numbers_are_weighed_together(extra):
    """Neither part alone tells the answer; nested fields beside a text are read too."""
    generator = random.Random(6)
    pairs = []
    for text, label in support.texts(500, 3):
        size = generator.uniform(0, 100)
        wanted = "urgent" if label == "complaint" and size > 40 else "normal"
        fields = {name: [generator.random() for _ in value] for name, value in extra.items()}
        pairs.append(({"text": text, "size": size, **fields}, wanted))
    candidate, run = only(pairs[:300])
    assert accuracy(run, pairs[300:]) >= 0.9
    assert "and" in candidate.description


def test_whole_numbers_are_answered_for_integer_schemas():
    """An estimate of 3.7 rooms would violate the schema."""
    pairs = [({"a": float(a), "b": float(a % 7)}, 3 * a + 1) for a in range(100)]
    _, run = only(pairs, output_schema={"type": "integer"})
    assert type(run({"a": 50.3, "b": 1.0})) is int


def test_estimates_stay_within_reason_and_schema():
    """Absurd inputs must not give absurd or infinite answers."""
    pairs = [({"a": float(a)}, 2.0 * a + 0.5) for a in range(100)]
    _, run = only(pairs, output_schema={"type": "number", "maximum": 150})
    assert run({"a": 1e308}) == 150
    assert run({"a": -1e308}) == 0.0
    assert math.isfinite(run({"a": 10**300}))


@pytest.mark.parametrize(
    "classes",
    [[True, False], [None, "x"], [1, 2, 3], [{"queue": "a", "p": [1]}, {"queue": "b"}], [1.5, 2]],
)
def test_outputs_are_answered_as_the_json_values_they_were(classes):
    """Objects, null and numbers can be classes; types survive."""
    pairs = [({"x": index % len(classes) + index / 1000, "y": 1}, classes[index % len(classes)])
             for index in range(60)]  # fmt: skip
    _, run = only(pairs)
    for position, value in enumerate(classes):
        answer = run({"x": position + 0.01, "y": 1})
        assert json.dumps(answer) == json.dumps(value)


# --- honesty -------------------------------------------------------------------------------------


def test_held_out_examples_share_no_input_with_seen_ones():
    """With every input given three times, the copies of a held-out one are dropped."""
    pairs = [pair for pair in support.texts(60, 7) for _ in range(3)]
    candidate, _ = only(pairs)
    held = [bytes(example.input) for example in candidate.held_out]
    assert len(set(held)) == len(held)
    assert candidate.seen + 3 * len(held) == len(pairs)


def test_held_out_examples_do_not_change_the_program():
    """Other texts in their places leave the program as it is, byte for byte: it never saw them."""
    pairs = support.texts(120, 8)
    candidate, _ = only(pairs)
    held = {msgspec.json.decode(example.input) for example in candidate.held_out}
    other = [
        (f"zebra {index} unheard of" if text in held else text, label)
        for index, (text, label) in enumerate(pairs)
    ]
    again, _ = only(other)
    assert {msgspec.json.decode(example.input)[:5] for example in again.held_out} == {"zebra"}
    assert again.code == candidate.code


def test_the_program_is_the_fitted_model():
    """Its answers equal those of the estimator it was written down from."""
    bunch = datasets.load_wine()
    given = [pair[0] for pair in rows(bunch, bunch.feature_names)]
    numbers = [float(row["proline"]) for row in given]
    heading = program.Heading(task="t", description="", model="m", seen=1, tried=1)
    for outputs, schema in (
        ([int(target) for target in bunch.target], {}),
        ([bool(target) for target in bunch.target], {}),
        (numbers, {"type": "number"}),
    ):
        wanted = goal.read(outputs, schema)
        columns = inputs.columns(given)
        views = families.views(columns)
        for family in families.families(views, wanted):
            matrix = views.matrix(family)
            estimator = families.fit(family, matrix, np.array(wanted.targets), 0)
            if family.form == "linear":
                model = models.linear(family, views, columns, wanted, 0)
            else:
                model = models.trees(family, views, wanted, 0)
            run = support.load(program.write(heading, wanted, model))
            expected = estimator.predict(matrix)
            answers = [run(row) for row in given]
            if wanted.kind == "number":
                assert np.allclose(answers, expected, rtol=1e-3, atol=0.5), family.name
            else:
                assert answers == [wanted.classes[int(index)] for index in expected], family.name


def test_the_text_program_is_the_fitted_model():
    """The same for every family of texts, two classes and three."""
    heading = program.Heading(task="t", description="", model="m", seen=1, tried=1)
    for labels in (3, 2):
        pairs = [pair for pair in support.texts(150, 9) if labels == 3 or pair[1] != "question"]
        given = [text for text, _ in pairs]
        wanted = goal.read([label for _, label in pairs], {})
        columns = inputs.columns(given)
        views = families.views(columns)
        for family in families.families(views, wanted):
            matrix = views.matrix(family)
            estimator = families.fit(family, matrix, np.array(wanted.targets), 0)
            model = models.linear(family, views, columns, wanted, 0)
            run = support.load(program.write(heading, wanted, model))
            expected = [wanted.classes[int(i)] for i in estimator.predict(matrix)]
            assert [run(text) for text in given] == expected, family.name


def test_equal_task_and_seed_give_equal_bytes_in_two_processes():
    """Whatever the order of sets and the number of threads."""
    program = """
import sys
from tests.unit.synthesis import support as support
from loopai.synthesis import examples
for pairs in (support.texts(150, 1), support.houses(150, 1)):
    sys.stdout.write(examples.candidates(support.task(pairs), 7)[0].code)
"""
    folder = support.__file__.rpartition("/")[0]
    said = []
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        environment = {
            "PYTHONPATH": folder,
            "PYTHONHASHSEED": hash_seed,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        said.append(done.stdout)
    assert said[0] == said[1]
    assert len(said[0]) > 2000


def test_answers_do_not_depend_on_earlier_ones():
    """A program is a pure function: its answers in any order are the same."""
    pairs = support.texts(200, 4)
    _, run = only(pairs[:100])
    forwards = [run(text) for text, _ in pairs]
    backwards = [run(text) for text, _ in reversed(pairs)]
    assert forwards == backwards[::-1]


def test_programs_import_only_what_is_allowed():
    """Text, table and mixed programs alike."""
    mixed = [
        ({"text": t, "n": float(i)}, label) for i, (t, label) in enumerate(support.texts(90, 1))
    ]
    for pairs in (support.texts(90, 1), support.houses(90, 1), mixed):
        candidate, _ = only(pairs)
        for node in ast.walk(ast.parse(candidate.code)):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= modules.ALLOWED
            assert not isinstance(node, ast.ImportFrom)


async def test_evaluation_runs_the_program_without_this_project():
    """An isolated interpreter without packages runs it: it needs nothing but Python."""
    candidate, _ = only(support.texts(150, 5))
    said = await evaluation.evaluate(candidate, support.run_in_subprocess)
    assert said.answered == len(candidate.held_out) == 30
    assert said.evaluation.held_out_accuracy >= 0.9
    assert {score.label for score in said.evaluation.classes} == {"complaint", "question", "thanks"}


# --- hostile data --------------------------------------------------------------------------------

NASTY = [
    '"""',
    "'''",
    "\\",
    '\\"""\n__import__("os").abort()\n"""',
    "{0}{name}{{",
    "%s %(x)s",
    "line\nbreak\r\f\v\x1c\x85\u2028\u2029",
    "\0\x1b[31m",
    "\u202eevil\u2066",
    "# comment",
    "'); import os; ('",
    "İıßſ",
    "🦆\ufeff",
    "\N{COMBINING ACUTE ACCENT}",
]


def assert_data_stays_data(pairs):
    told = "".join(NASTY)
    candidate, run = only(pairs, name=told, description=told)
    tree = ast.parse(candidate.code)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"os", "__import__"}
    assert told in ast.get_docstring(tree, clean=False)
    labels = {json.dumps(label) for _, label in pairs}
    assert {json.dumps(run(given)) for given, _ in pairs} == labels
    assert candidate.code.replace("\n", "").isprintable()


def test_nasty_strings_stay_data_in_text_programs():
    """As labels, texts, the task's name and description."""
    pairs = [(f"{nasty} {index}", nasty) for nasty in NASTY for index in range(10)]
    assert_data_stays_data(pairs)


@pytest.mark.parametrize("steps", [False, True])
def test_nasty_strings_stay_data_in_table_programs(steps):
    """As field names, categories and parts of labels; linear models, and trees with comments."""
    generator = random.Random(1)
    pairs = []
    for index in range(150):
        fields = {name: generator.random() for name in NASTY}
        fields["category " + NASTY[3]] = NASTY[index % 3]
        high = [fields[NASTY[3]] > 0.5, fields[NASTY[6]] > 0.5]
        wanted = high[0] != high[1] if steps else high[0]
        pairs.append((fields, {NASTY[3]: [NASTY[wanted]]}))
    assert_data_stays_data(pairs)


def test_lone_surrogates_are_refused_by_name():
    """JSON can spell them, UTF-8 cannot."""
    task = support.task(support.texts(30, 1))
    bad = msgspec.structs.replace(task.examples[4], input=msgspec.Raw(b'"\\ud800"'))
    broken = msgspec.structs.replace(task, examples=(*task.examples[:4], bad, *task.examples[5:]))
    with pytest.raises(engine.CannotGenerate, match="the input of example 4 cannot be read"):
        examples.candidates(broken, 0)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_examples_are_refused_with_the_number_needed(count):
    """Twenty is the least."""
    refused = refusal(support.texts(count, 1))
    assert refused.code == "TOO_FEW_EXAMPLES"
    assert f"has {count} examples" in str(refused)
    assert "at least 20" in str(refused)


def test_copies_do_not_count_as_examples():
    """A hundred copies of one message prove nothing."""
    refused = refusal([("same", "a")] * 50 + [("other", "b")] * 50)
    assert refused.code == "TOO_FEW_EXAMPLES"
    assert "2 of them with different inputs" in str(refused)


def test_twenty_examples_are_enough():
    """The limit itself is allowed."""
    candidate, _ = only([({"x": float(i)}, i >= 10) for i in range(20)])
    assert candidate.seen == 10
    assert len(candidate.held_out) == 10


def test_a_class_with_one_example_is_named():
    """Its second example is what is missing."""
    refused = refusal([*support.texts(40, 1), ("something else", "odd")])
    assert refused.code == "TOO_FEW_EXAMPLES"
    assert '"odd"' in str(refused)


def test_one_label_only_is_refused():
    """There is nothing to tell apart."""
    refused = refusal([(text, "spam") for text, _ in support.texts(50, 1)])
    assert refused.code == "INVALID_REQUEST"
    assert 'the output "spam"' in str(refused)


def test_free_text_outputs_are_refused():
    """The engine chooses or estimates; it does not write."""
    refused = refusal([(text, text.upper()) for text, _ in support.texts(50, 1)])
    assert refused.code == "INVALID_REQUEST"
    assert "does not write free text" in str(refused)


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([{"tags": ["a", str(i)]} for i in range(40)], "tags is an array of more than numbers"),
        ([{"a": [{"b": i}]} for i in range(40)], "array of more than numbers"),
        ([{"same": 1, f"only{i}": None} for i in range(40)], "do not differ"),
        ([dict.fromkeys(map(str, range(1001)), i) for i in range(40)], "1000"),
        ([{"n": i, "deep": nested(100)} for i in range(40)], "nested more than 64"),
    ],
)
def test_inputs_that_cannot_be_learned_from_are_refused(inputs, words):
    """Each with what is wrong with it."""
    refused = refusal([(given, index % 2) for index, given in enumerate(inputs)])
    assert refused.code == "INVALID_REQUEST"
    assert words in str(refused)


def test_texts_without_anything_in_common_are_refused():
    """No word comes twice and all have the same shape."""
    letters = [chr(0x4E00 + index) for index in range(40)]
    refused = refusal([(letter, index % 2) for index, letter in enumerate(letters)])
    assert "in common" in str(refused)


def test_programs_that_would_be_too_large_are_refused():
    """Class values can be any JSON, and of any size."""
    big = ["x" * 300_000, "y" * 300_000]
    refused = refusal([({"x": index}, big[index % 2]) for index in range(40)])
    assert refused.code == "INVALID_REQUEST"
    assert "524288 are the limit" in str(refused)


def test_outputs_out_of_range_are_refused():
    """Squares of such numbers are infinite."""
    refused = refusal([({"x": i}, 10.0**i) for i in range(300)])
    assert "cannot be learned as outputs" in str(refused)


@pytest.mark.parametrize(
    "values",
    [
        [1e308, -1e308, 0.5],
        [1e-308, 2e-308, 5e-324],
        [1.7e9, 1.7e9 + 1, 1.7e9 + 2],
        [10**200, 5, None],
        [True, 2.5, None],
        ["a", 1, None],
    ],
)
def test_odd_numbers_are_learned_from_without_a_fault(values):
    """Huge, tiny, close together, mixed with null, booleans and strings."""
    cycle = itertools.cycle(values)
    pairs = [({"odd": next(cycle), "x": float(i)}, ["a", "b", "c"][i % 3]) for i in range(90)]
    _, run = only(pairs)
    assert all(run(given) in {"a", "b", "c"} for given, _ in pairs)


def test_close_numbers_far_from_zero_are_told_apart():
    """Times in seconds differ in their last digits only."""
    pairs = [({"at": 1.7e9 + i}, i >= 50) for i in range(100)]
    _, run = only(pairs)
    assert accuracy(run, pairs) >= 0.97


def test_many_classes_stay_within_the_size_limit():
    """A hundred classes by a keyword each."""
    generator = random.Random(2)
    pairs = []
    for index in range(1000):
        noise = " ".join(generator.choices(["the", "of", "in", "to", "is", "for"], k=5))
        pairs.append(
            (f"{noise} keyword{chr(97 + index % 10)}{chr(97 + index // 10 % 10)}", index % 100)
        )
    candidate, run = only(pairs, output_schema={"enum": list(range(100))})
    assert len(candidate.code) < 512 * 1024
    assert accuracy(run, pairs) >= 0.9
