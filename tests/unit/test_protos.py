"""The messages that protoc made of protos/ are those of today."""

from tools import protos


def test_messages_are_made_of_the_proto_that_there_is() -> None:
    """One that was not made again since the .proto changed is found: `make protos` makes it."""
    assert not protos.stale()
