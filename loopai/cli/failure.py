"""How a command ends when it cannot do what it was asked."""


class Failure(Exception):  # noqa: N818 (the message is what the user reads)
    """Printed to stderr as it is. The message says what is wrong and, where it can, what to do."""

    exit_code = 1


class Usage(Failure):
    """Nothing was done: what the user gave cannot be used, or this machine cannot do it."""

    exit_code = 2
