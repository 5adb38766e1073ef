"""`python -m tools.reference`, or `make docs`: writes what the code says into docs/reference/."""

from tools import reference

if __name__ == "__main__":
    reference.write()
