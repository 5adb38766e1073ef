"""Tables that people read, and that other programs do."""

import msgspec

from loopai.cli import output, tasks

ID = "01a205e4-69d3-7fd5-8ef0-812bda983735"


def test_an_id_stays_in_one_piece_where_a_program_reads(capsys, monkeypatch):
    """Beside columns that are wide, `loopai key list | grep` finds it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    output.stdout().print(output.grid(("what", "id"), [("x" * 100, ID)]))
    assert ID in capsys.readouterr().out


def test_a_schema_in_a_row_is_cut():
    """A large one would push all others off the screen."""
    small, large = msgspec.Raw(b'{"type":"string"}'), msgspec.Raw(b'{"enum":["%s"]}' % (b"a" * 99))
    assert tasks._brief(small) == '{"type":"string"}'
    assert tasks._brief(large) == '{"enum":["' + "a" * (tasks.SCHEMA_CHARACTERS_MAX - 11) + "…"
