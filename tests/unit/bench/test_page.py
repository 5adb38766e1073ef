"""The page of the figures, of which each part has a section."""

from bench import __main__ as bench
from bench import page


def test_a_part_that_is_measured_again_replaces_its_own_section_only() -> None:
    """The page keeps what was not measured, in the order of the parts."""
    text = page.assembled({"memory": "## M\n", "http": "## H\n"}, ("http", "memory"))
    sections = page.sections_of(text)
    assert sections == {"http": "## H\n", "memory": "## M\n"}
    again = page.assembled(sections | {"http": "## New\n"}, ("http", "memory"))
    assert again == text.replace("## H\n", "## New\n")
    assert again.index("## New") < again.index("## M")


def test_the_committed_page_is_what_the_bench_would_write() -> None:
    """An edit by hand would be lost with the next run, so it is found before."""
    text = page.PAGE.read_text()
    assert page.assembled(page.sections_of(text), bench.PARTS) == text
