"""How a command ends when it cannot do what it was asked."""


class Failure(Exception):  # noqa: N818 (the message is what the user reads; exit code 1)
    """Printed to stderr as it is. The message says what is wrong and, where it can, what to do."""
