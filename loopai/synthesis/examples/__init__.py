"""The examples engine: from labelled examples to a program, without a network."""

from loopai.synthesis.examples.engine import candidates

__all__ = ["candidates"]
