"""Code that is both run while fitting and copied into the programs, so the two cannot differ.

Every module here imports only the stdlib and stands for itself; `program.source` reads its text.
"""
