"""How stamps of messages become stages."""

import datetime as dt

import pytest

from bench import caller, latency
from streams import codec, ids, subjects
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionRecord, Latency, RecordBatch

NOW_MS = 1_790_000_000_000
NOW_S = NOW_MS / 1e3


def execution(number: int) -> str:
    return ids.at(NOW_MS, bytes([number] * 10))


def record(number: int) -> ExecutionRecord:
    """One that a worker began with after 2.5 ms and that had its outcome after 3 ms."""
    return ExecutionRecord(
        id=execution(number),
        tenant="default",
        task="t",
        task_id="",
        status="success",
        latency_ms=Latency(queue=2.5, run=0.1, total=3.0),
        executed_at=dt.datetime.fromtimestamp(NOW_S + 3e-3, dt.UTC),
    )


def messages(*numbers: int) -> list[latency.Seen]:
    """What passes the broker for a batch: after 1, 4 and 5 ms."""
    items = [ExecuteItem(id=execution(each), input=b"1", deadline_ms=0) for each in numbers]
    records = codec.RECORDS.encode(RecordBatch(records=tuple(map(record, numbers))))
    execute = codec.EXECUTE.encode(ExecuteBatch(items=tuple(items)))
    return [
        latency.Seen(NOW_S + 1e-3, subjects.execute("interactive", "default", "t"), execute),
        latency.Seen(NOW_S + 4e-3, subjects.record("default", "t"), records),
        latency.Seen(NOW_S + 5e-3, subjects.reply("ingress", "i"), records),
    ]


def call(number: int) -> caller.Call:
    return caller.Call(execution(number), NOW_S - 0.5e-3, NOW_S + 7e-3)


def test_stages_lie_between_what_was_seen_and_what_the_record_tells() -> None:
    """Those of a call in a batch with others are found by its execution id."""
    (found,) = latency.stages([call(2)], messages(1, 2))
    expected = {
        "ingress": 1.5,
        "queue": 1.5,
        "cell": 0.5,
        "record": 1.0,
        "confirm": 1.0,
        "reply": 2.0,
    }
    assert dict(zip(latency.STAGES, found, strict=True)) == {
        name: pytest.approx(ms / 1e3, abs=1e-6) for name, ms in expected.items()
    }


def test_a_call_whose_messages_were_not_all_seen_has_no_stages() -> None:
    """Nothing is guessed."""
    assert latency.stages([call(1), call(2)], messages(1)[:2]) == []
    assert len(latency.stages([call(1), call(2)], messages(1))) == 1


def test_what_was_seen_late_happened_before_what_came_next() -> None:
    """Stages are never less than nothing, and add up to the call."""
    assert latency.between([0.0, 3.0, 2.0, 4.0]) == (2.0, 0.0, 2.0)


def test_the_middle_half_adds_up() -> None:
    """A call that took for ever says nothing of where time goes."""
    calls = [(1.0, 1.0), (0.0, 0.1), (1.0, 3.0), (90.0, 9.0)]
    assert latency.middle(calls) == (1.0, 2.0)
    assert latency.middle([]) == ()


def test_a_missed_target_is_a_failure_and_load_has_none() -> None:
    """The bench ends with exit code 1; every row has its stages, every bar its parts."""
    slow = latency.Found(calls=[caller.Call("", 0.0, 0.004)], stages=[(0.001,) * 6], rates=[9.0])
    slow.watched = slow.calls
    found = latency.tabulate(
        {
            ("always", "alone"): slow,
            ("default", "alone"): slow,
            ("default", "half load"): slow,
        }
    )
    assert found.failures == ["lone caller, sync default: p50 4.0 ms, target ≤ 2.5 ms"]
    assert [row.get("holds", "") for row in found.rows] == ["yes", "NO", ""]
    assert [str(row["confirm"]) for row in found.rows] == ["1.0 ms"] * 3
    (panel,) = found.panels
    assert [list(series.values) for series in panel.series] == [[1.0] * 3] * 6
