"""What runs programs: a module for each runtime says which files its cells get."""

from loopai.sandbox.runtimes import deno, python, runtime
from streams import messages


def languages() -> frozenset[messages.Language]:
    """Return the languages that this machine can run. Starts nothing."""
    here = {"python", "deno"} if deno.find() else {"python"}
    return frozenset(each for each, name in runtime.BY_LANGUAGE.items() if name in here)


async def discover(name: runtime.Name) -> runtime.Runtime:
    """Return what cells of runtime *name* need here. MissingError where it is not installed."""
    return await (deno.discover() if name == "deno" else python.discover())
