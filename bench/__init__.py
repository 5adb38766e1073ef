"""Figures, measured: `python -m bench` for all of them, `python -m bench NAME` for some."""
