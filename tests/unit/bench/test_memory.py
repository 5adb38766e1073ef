"""How readings become a table."""

from bench import memory


def test_the_most_of_each_figure_is_kept() -> None:
    """RSS and PSS each by itself; what may not be read stays unknown, who came later counts."""
    one = {"a": memory.Memory(5, 9), "b": memory.Memory(1, None)}
    other = {"a": memory.Memory(7, 3), "b": memory.Memory(2, None), "c": memory.Memory(4, 4)}
    assert memory.larger(one, other) == {
        "a": memory.Memory(7, 9),
        "b": memory.Memory(2, None),
        "c": memory.Memory(4, 4),
    }


def test_a_limit_that_is_passed_under_load_is_a_failure() -> None:
    """Of the ingress and the executor's host; cells have limits of their own."""
    idle = {
        "loopai.ingress": memory.Memory(50, 30),
        "nats-server": memory.Memory(500, 500),
        memory.CELLS: memory.Memory(300, 200),
    }
    most = idle | {"loopai.ingress": memory.Memory(101, 90)}
    found = memory.tabulate({"idle": idle, "under load": most, "after": idle}, 1_000)
    assert found.failures == ["loopai.ingress: 101.0 MB under load, limit 100 MB"]
    assert [row["process"] for row in found.rows] == list(idle)
    assert found.rows[2]["RSS idle"] == ""
    assert str(found.rows[2]["PSS idle"]) == "200.0 MB"
    assert found.panels[0].groups == ["loopai.ingress", "nats-server"]
