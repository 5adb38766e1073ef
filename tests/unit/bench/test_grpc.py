"""What the bench of gRPC makes of its figures."""

from bench import grpc


def test_single_and_many_are_compared_with_their_own_kind() -> None:
    """The median of each way in, beside what HTTP took of the same."""
    found = grpc.Found(
        rates={
            grpc.REST: [90, 100, 900],
            grpc.UNARY: [50, 50, 50],
            grpc.STREAM: [120, 120, 120],
            grpc.LINES: [1000, 1000, 1000],
            grpc.MESSAGES: [2000, 2000, 2000],
        },
        sizes={grpc.REST: (700, 690)},
    )
    told = grpc.tabulate(found)
    assert [str(row["of HTTP"]) for row in told.rows] == ["1.00", "0.50", "1.20", "1.00", "2.00"]
    assert str(told.rows[0]["later"]) == "690"
    assert "1.20 times the" in told.notes[0]
