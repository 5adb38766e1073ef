from pathlib import Path

import pytest

from loopai.cli import failure, table


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_tsv_keeps_quotes_as_text(tmp_path):
    """In a TSV a quote is a character like any other, and odd line ends are part of the text."""
    path = write(tmp_path, "a.tsv", 'Label\tSMS\nham\t"Hi, he said\nspam\tx\u2028y "z"\r\n')
    assert table.read(path).rows == (("ham", '"Hi, he said'), ("spam", 'x\u2028y "z"'))


def test_csv_honours_quotes_and_line_breaks_inside_them(tmp_path):
    """A quoted field may hold delimiters, quotes and line breaks."""
    path = write(tmp_path, "a.csv", 'a,b\r\n"1, ""one""\nline",2\r\n')
    assert table.read(path).rows == (('1, "one"\nline', "2"),)


@pytest.mark.parametrize("delimiter", table.DELIMITERS)
def test_delimiter_is_the_one_that_splits_the_first_line(tmp_path, delimiter):
    """Files that are not .tsv may use any of the usual delimiters."""
    path = write(tmp_path, "a.txt", f"first name{delimiter}b\nx{delimiter}y\n")
    assert table.read(path).columns == ("first name", "b")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.tsv", "\t")])
def test_lines_may_end_as_on_any_system(tmp_path, name, mark, end):
    """Unix, Windows and old Mac."""
    found = table.read(write(tmp_path, name, end.join([f"a{mark}b", f"1{mark}2", f"3{mark}4", ""])))
    assert found.columns == ("a", "b")
    assert found.rows == (("1", "2"), ("3", "4"))


def test_what_is_only_called_tsv_is_read_as_csv(tmp_path):
    """Without a tab in it there is nothing plain to split."""
    assert table.read(write(tmp_path, "a.tsv", "a;b\n1;2\n")).columns == ("a", "b")


def test_first_line_of_excel_tells_the_delimiter(tmp_path):
    """`sep=` is an instruction, not a row."""
    found = table.read(write(tmp_path, "a.csv", "sep=|\r\na,x|b\r\n1|2\r\n"))
    assert (found.columns, found.rows) == (("a,x", "b"), (("1", "2"),))


def test_quotes_may_stand_behind_a_space(tmp_path):
    """Some programs write a space after each comma; quotes are quotes all the same."""
    found = table.read(write(tmp_path, "a.csv", '"a", "b"\n1, "2, 3"\n'))
    assert (found.columns, found.rows) == (("a", "b"), (("1", "2, 3"),))


def test_names_of_columns_may_have_line_breaks_and_delimiters(tmp_path):
    """The whole first row decides on the delimiter, not what stands before its first line break."""
    found = table.read(write(tmp_path, "a.csv", '"a, x\ny, z";b\n1;2\n'))
    assert (found.columns, found.rows) == (("a, x\ny, z", "b"), (("1", "2"),))


def test_names_and_cells_may_be_long(tmp_path):
    """No limit but that of the file."""
    long = "x" * 200_000
    found = table.read(write(tmp_path, "a.csv", f"{long},b\n{long},1\n"))
    assert (found.columns[0], found.rows[0][0]) == (long, long)


def test_a_device_without_an_end_is_not_read_for_ever():
    """What has no size is read up to the limit."""
    with pytest.raises(failure.Failure, match=f"/dev/zero is larger than {table.FILE_BYTES_MAX} "):
        table.read(Path("/dev/zero"))


def test_rows_of_another_width_are_left_out_and_told(tmp_path):
    """A row with too few or too many fields is not guessed at."""
    found = table.read(write(tmp_path, "a.csv", "a,b\n1\n1,2\n1,2,3\n"))
    assert found.rows == (("1", "2"),)
    assert found.notes == ("2 rows left out: they do not have 2 fields, as the first",)


def test_bytes_that_are_not_utf8_are_replaced_and_told(tmp_path):
    """Other encodings lose characters, never the file; replacements that were there stay unsaid."""
    found = table.read(write(tmp_path, "a.csv", b"\xef\xbb\xbfa,b\ncaf\xe9,\xef\xbf\xbd\n"))
    assert found.columns == ("a", "b")
    assert found.rows == (("caf\ufffd", "\ufffd"),)
    assert found.notes == ("1 bytes are not UTF-8 and read as \ufffd",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "no rows below its first line"),
        ("my data\na,b\n1,2\n", "it has 1 fields, and none of the 2 rows below has as many"),
        ("1,2\n3,4\n", "must name the columns"),
        ("a,a\n3,4\n", "two columns 'a'"),
        (b"a,b\n\0,1\n", "not a text file"),
        ('a,b\n"1,2\n', r"line 2: unexpected end of data"),
    ],
)
def test_file_that_is_no_table_is_one_clear_line(tmp_path, content, message):
    """Each says the file's name and what is the matter."""
    path = write(tmp_path, "a.csv", content)
    with pytest.raises(failure.Failure, match=rf"a\.csv.*{message}") as raised:
        table.read(path)
    assert "\n" not in str(raised.value)


def test_missing_file_and_directory_are_named(tmp_path):
    """What the system says about the path is the message."""
    with pytest.raises(failure.Failure, match=r"none\.csv: No such file"):
        table.read(tmp_path / "none.csv")
    with pytest.raises(failure.Failure, match="Is a directory"):
        table.read(tmp_path)


def test_column_is_found_by_any_case_unless_that_is_ambiguous(tmp_path):
    """`label` finds Label, and a column that is not there is answered with those that are."""
    found = table.read(write(tmp_path, "a.csv", "Label,x,X\n1,2,3\n"))
    assert [found.column(name) for name in ("label", "x", "X")] == [0, 1, 2]
    with pytest.raises(failure.Failure, match="no column 'y'; it has Label, x, X"):
        found.column("y")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Speceis", r"no column 'Speceis'; did you mean 'Species'\? It has Species, x1, x2, "),
        ("zzz", r"no column 'zzz'; it has Species, .*, x39, and 61 more$"),
    ],
)
def test_column_that_is_not_there_is_answered_with_the_nearest(tmp_path, name, message):
    """A slip of the finger is recognised, and many columns are not all listed."""
    columns = ["Species", *(f"x{at}" for at in range(1, 101))]
    path = write(tmp_path, "a.csv", ",".join(columns) + "\n" + ",".join("1" for _ in columns))
    with pytest.raises(failure.Failure, match=message):
        table.read(path).column(name)
