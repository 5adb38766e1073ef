import msgspec
import pytest

from loopai.cli import failure, labelled, table
from loopai.cli.labelled import Choice
from loopai.synthesis.examples import engine


def source(columns, rows, name="some file.csv"):
    return table.Table(name=name, columns=tuple(columns), rows=tuple(map(tuple, rows)))


def inputs(rows):
    return [msgspec.json.decode(row.input) for row in rows]


def test_columns_are_typed_by_what_all_their_cells_are():
    """Whole numbers, numbers, truth values and text each get their JSON type, gaps a null."""
    kinds = source(
        ["Id No", "meanRadius", "Flag?", "Free Text", "gap", "code", "y"],
        [
            [str(at), f"{at}.5", "True", "7" if at else "x", "" if at else "1", "007", "ab"[at % 2]]
            for at in range(24)
        ],
    )
    found = labelled.prepare(kinds, Choice())
    assert found.input_schema["properties"] == {
        "id_no": {"type": "integer"},
        "mean_radius": {"type": "number"},
        "flag": {"type": "boolean"},
        "free_text": {"type": "string"},
        "gap": {"type": ["integer", "null"]},
        "code": {"type": "string"},
    }
    first = min(inputs([*found.examples, *found.unseen]), key=lambda row: row["id_no"])
    assert first == {
        "id_no": 0, "mean_radius": 0.5, "flag": True, "free_text": "x", "gap": 1, "code": "007"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("9007199254740992", "integer"),
        ("9007199254740993", "string"),
        ("9" * 5000, "string"),
        ("-0", "integer"),
        ("+1e5", "number"),
        ("inf", "string"),
        ("1_000", "string"),
        ("00", "string"),
        ("0.25", "number"),
    ],
)
def test_numbers_that_json_would_change_stay_text(cell, kind):
    """Codes, groups of digits and whole numbers past 2^53 are kept as they are written."""
    rows = [[cell, "ab"[at % 2]] for at in range(24)]
    found = labelled.prepare(source("xy", rows), Choice())
    assert found.input_schema["properties"]["x"] == {"type": kind}


def test_same_seed_gives_the_same_split_of_all_rows():
    """The split depends on the seed alone, and no row is lost or doubled."""
    rows = [[str(at), "ab"[at % 2]] for at in range(50)]
    first, again, other = (
        labelled.prepare(source("xy", rows), Choice(seed=seed, examples=30)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.examples != other.examples
    assert len(first.examples) == 30
    assert sorted(row["x"] for row in inputs([*first.examples, *first.unseen])) == [*range(50)]


def test_text_takes_one_column_under_its_own_name():
    """`--text` makes that column the whole input, always as text, and gaps stay empty text."""
    rows = [["spam" if at % 2 else "ham", "1" if at else "", "9"] for at in range(24)]
    found = labelled.prepare(source(["Label", "SMS", "n"], rows), Choice(label="Label", text="SMS"))
    assert found.input_schema["properties"] == {"sms": {"type": "string"}}
    assert {row["sms"] for row in inputs([*found.examples, *found.unseen])} == {"", "1"}
    assert found.output_schema == {"type": "string", "enum": ["ham", "spam"]}


def test_few_whole_numbers_are_classes_and_many_a_quantity():
    """An integer label becomes an enum while it has few values, else a number to estimate."""
    few = [["x", str(at % 3)] for at in range(60)]
    many = [["x", str(at)] for at in range(60)]
    assert labelled.prepare(source("xy", few), Choice()).output_schema == {
        "type": "integer",
        "enum": [0, 1, 2],
    }
    found = labelled.prepare(source("xy", many), Choice())
    assert found.output_schema == {"type": "number"}
    assert all(isinstance(row.output, float) for row in found.unseen)


def test_rows_without_a_label_are_left_out_and_told():
    """What has no answer can neither teach nor test."""
    rows = [["x", "ab"[at % 2]] for at in range(30)] + [["x", " "]] * 3
    found = labelled.prepare(source("xy", rows), Choice())
    assert len(found.examples) + len(found.unseen) == 30
    assert found.notes == ("3 rows left out: they have no y",)


@pytest.mark.parametrize(
    ("answers", "left_out", "schema"),
    [
        (["1", "0", "NA"], 20, {"type": "integer", "enum": [0, 1]}),
        (["1.0", "0.0", ""], 20, {"type": "integer", "enum": [0, 1]}),
        (["1.5", "2", "nan"], 20, {"type": "number"}),
        (["True", "False", "null"], 20, {"type": "string", "enum": ["False", "True"]}),
        (["TRUE", "False", "false"], 0, {"type": "string", "enum": ["false", "true"]}),
        (["mild", "severe", "none"], 0, {"type": "string", "enum": ["mild", "none", "severe"]}),
    ],
)
def test_labels_are_what_their_values_mean(answers, left_out, schema):
    """A gap is no class, 1.0 is the class 1, and a truth value has two spellings at most."""
    rows = [["x", answers[at % 3]] for at in range(60)]
    found = labelled.prepare(source("xy", rows), Choice())
    assert found.output_schema == schema
    assert len(found.examples) + len(found.unseen) == 60 - left_out
    assert bool(found.notes) == bool(left_out)


def test_a_small_table_gives_the_examples_that_the_engine_needs():
    """Half of the rows only where that is enough to make a program."""
    assert labelled.EXAMPLES_MIN == engine.EXAMPLES_MIN
    rows = [[str(at), "ab"[at % 2]] for at in range(labelled.ROWS_MIN)]
    found = labelled.prepare(source("xy", rows), Choice())
    assert (len(found.examples), len(found.unseen)) == (labelled.EXAMPLES_MIN, 1)


def test_a_table_without_an_answer_has_no_examples():
    """A task is not made with none of the examples that were asked for."""
    with pytest.raises(failure.Failure, match="no row has a value in 'y'"):
        labelled.examples(source("xy", [["1", ""], ["2", " "]]))


@pytest.mark.parametrize(
    ("rows", "choice", "message"),
    [
        (
            [["1", "a"]] * 20,
            Choice(),
            "has 20 rows with a value in 'y', the label; 21 are the least",
        ),
        ([["1", "ab"[at % 2]] for at in range(30)], Choice(examples=19), "at least 20 examples"),
        ([["1", "a"]] * 30, Choice(), "every row has y 'a'"),
        ([["1", str(at) + "x"] for at in range(30)], Choice(), "so it is no label"),
        ([["1", "ab"[at % 2]] for at in range(30)], Choice(examples=30), "leaves none to try"),
        ([["1", "ab"[at % 2]] for at in range(30)], Choice(label="z"), "no column 'z'"),
        ([["1", "ab"[at % 2]] for at in range(30)], Choice(text="z"), "no column 'z'"),
        ([["1", "ab"[at % 2]] for at in range(30)], Choice(text="y"), "must be a column to pred"),
        ([["1", "ab"[at == 0]] for at in range(30)], Choice(seed=4), "the 20 examples all have"),
        ([["1", "+1"], ["1", "1"]] * 15, Choice(), "every row has y '\\+1'"),
        ([["1", "1.0"], ["1", "1"]] * 15, Choice(), "every row has y '1.0'"),
    ],
)
def test_data_that_teaches_nothing_is_one_clear_line(rows, choice, message):
    """Each says the file's name and what is the matter."""
    with pytest.raises(failure.Failure, match=rf"some file\.csv.*{message}") as raised:
        labelled.prepare(source("xy", rows), choice)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SMS", "sms"),
        ("mean radius", "mean_radius"),
        ("meanRadius (mm)", "mean_radius_mm"),
        ("Größe", "größe"),
        ("__x--y__", "x_y"),
        ("?!", ""),
    ],
)
def test_snake_case(name, expected):
    """Names of columns become names of fields."""
    assert labelled.snake_case(name) == expected


def test_columns_that_become_the_same_field_stay_apart():
    """No column hides another one."""
    rows = [["1", "2", "3", "ab"[at % 2]] for at in range(24)]
    found = labelled.prepare(source(["a b", "a-b", "?", "y"], rows), Choice())
    assert list(found.input_schema["properties"]) == ["a_b", "a_b_2", "column_3"]


def test_the_name_of_the_task_comes_from_the_file():
    """Only letters, digits and dashes of it are kept."""
    rows = [["1", "ab"[at % 2]] for at in range(24)]
    for file, name in (("/x/SMS_Spam (1).tsv", "sms-spam-1"), ("/x/日本.csv", "demo")):
        assert labelled.prepare(source("xy", rows, file), Choice()).name == name


def test_examples_of_a_table_keep_the_names_of_its_columns():
    """For a task with a schema of its own the fields are what the columns say."""
    found = labelled.examples(source(["Mean Radius", "y"], [["1.5", "3"], ["2", "4"], ["2", ""]]))
    assert [(bytes(each.input), bytes(each.output)) for each in found] == [
        (b'{"Mean Radius":1.5}', b"3"),
        (b'{"Mean Radius":2.0}', b"4"),
    ]
