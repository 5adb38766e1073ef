"""The client that blocks, made from `aio` by `mirror.py`; `iteration` alone is written by hand."""
