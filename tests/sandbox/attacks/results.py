"""Results that are no JSON, lie about themselves, or are larger than they look."""

from tests.sandbox.attacks.attack import ends, gives, invalid

_INVALID = {
    "an object": "object()",
    "a generator": "(x for x in 'ab')",
    "a generator inside": "[x for x in [iter([1])]]",
    "a function": "attempt",
    "a class": "dict",
    "a module": "json",
    "a set": "{1, 2}",
    "a set inside": "[{'a': {1, 2}}]",
    "bytes": "b'bytes'",
    "a view of bytes": "memoryview(b'bytes')",
    "a complex number": "1j",
    "a decimal": "load('decimal').Decimal(1)",
    "a date": "load('datetime').datetime(2024, 1, 1)",
    "an ellipsis": "...",
    "an exception": "ValueError()",
    "not a number": "float('nan')",
    "not a number inside": "[[{'a': float('nan')}]]",
    "infinity": "float('inf')",
    "minus infinity": "-1e308 * 10",
    "2**53 + 1": "2**53 + 1",
    "2**100": "2**100",
    "2**100 inside": "{'a': [2**100]}",
    "an integer of a million digits": "1 << 3_400_000",
    "an int key": "{1: 'a'}",
    "a None key": "{None: 'a'}",
    "a tuple key": "{(1, 2): 'a'}",
    "a bool key inside": "[{True: 'a'}]",
    "a depth of 65": "load('functools').reduce(lambda a, _: [a], range(65), 1)",
    "a depth of 5000": "load('functools').reduce(lambda a, _: [a], range(5000), 1)",
    "a depth of a million": "load('functools').reduce(lambda a, _: [a], range(10**6), 1)",
    "a list in itself": "(lambda x: (x.append(x), x)[1])([])",
    "a dict in itself": "(lambda x: (x.update(a=x), x)[1])({})",
    "two lists in each other": "(lambda x, y: (x.append(y), y.append(x), x)[2])([], [])",
    "a lone surrogate": "'\\ud800'",
    "a lone surrogate in a key": "{'\\udfff': 1}",
    "a lone surrogate inside": "['a', {'b': 'x\\udc00y'}]",
}

_LARGE = {
    "a hundred thousand members": "{str(i): i for i in range(100_000)}",
    "a list that names another a billion times": (
        "load('functools').reduce(lambda a, _: [a] * 10, range(9), 'x')"
    ),
    "a dict of lists of itself": "[['x' * 1000] * 1000] * 1000",
    "a key of a megabyte": "{'x' * 10**6: 1}",
    "a text of four-byte characters": "'🙂' * 200_000",
    "a tuple of a million": "(1,) * 10**6",
    "a million empty lists": "[[]] * 10**6",
}

# What they are by their base type, whatever they say of themselves.
_LYING = {
    "a list that lies about its length": ("list", "__len__", "0"),
    "a list that lies about its items": ("list", "__iter__", "iter([object()])"),
    "a dict that lies about its length": ("dict", "__len__", "10**9"),
    "a dict that lies about its items": ("dict", "items", "[(object(), object())]"),
    "a text that lies about itself": ("str", "__str__", "7"),
    "a text that lies about its length": ("str", "__len__", "0"),
    "a text that lies about its bytes": ("str", "encode", "b'\\xff'"),
    "an integer that lies about itself": ("int", "__int__", "2**100"),
    "an integer that lies about its text": ("int", "__repr__", "'NaN'"),
    "an integer that lies about its order": ("int", "__le__", "True"),
    "a float that lies about itself": ("float", "__float__", "float('nan')"),
    "a float that lies about its text": ("float", "__repr__", "'NaN'"),
    "a tuple that lies about its items": ("tuple", "__iter__", "iter([object()])"),
}


def _lying(base: str, method: str, answer: str) -> str:
    return f"class Lying({base}):\n    def {method}(self, *_): return {answer}\nreturn [Lying()]"


_PLAIN = {"list": [[]], "dict": [{}], "str": [""], "int": [0], "float": [0.0], "tuple": [[]]}

_EVIL = {
    "an object that claims to be a dict": "__class__ = dict",
    "an object whose class raises": "__class__ = property(lambda self: 1 / 0)",
    "an object whose class exits": ("@property\n    def __class__(self): raise SystemExit"),
    "an object whose attributes exit": "def __getattribute__(self, name): raise SystemExit",
    "an object whose representation hangs": "def __repr__(self):\n        while True: pass",
    "an object that looks like a list": "def __iter__(self): return iter([1])\n"
    "    def __len__(self): return 1\n    def __getitem__(self, at): return 1",
    "an object that offers JSON": "def __json__(self): return 1\n    def toJSON(self): return 1",
    "an object that offers an index": "def __index__(self): return 1",
}

_KEYS = (
    "class Key(str):\n    def __hash__(self): return 1\n"
    "    def __eq__(self, other):\n        while armed: pass\n        return False\n"
    "armed = False\nx = {Key('a'): 1, Key('b'): 2}\narmed = True\nreturn x"
)

ATTACKS = (
    *(
        invalid(f"{name} is no result", f"return {expression}")
        for name, expression in _INVALID.items()
    ),
    *(
        ends(f"{name} is too large", f"return {expression}", "output_too_large")
        for name, expression in _LARGE.items()
    ),
    *(gives(f"{name} is what it is", _lying(*lie), _PLAIN[lie[0]]) for name, lie in _LYING.items()),
    *(
        invalid(f"{name} is no result", f"class Evil:\n    {body}\nreturn [Evil()]")
        for name, body in _EVIL.items()
    ),
    invalid("a coroutine is no result", "async def late(): pass\nreturn late()"),
    ends(
        "five million dicts are too large or too much",
        "return [{} for _ in range(5_000_000)]",
        "out_of_memory",
        "output_too_large",
    ),
    ends(
        "a metaclass that claims everything is no result",
        "class Meta(type):\n    def __subclasscheck__(cls, other): return True\n"
        "    def __instancecheck__(cls, other): return True\n"
        "    mro = lambda cls: [cls, object]\n"
        "class Evil(metaclass=Meta): pass\nreturn Evil()",
        "invalid_result",
    ),
    ends(
        "a class with a hostile name is no result",
        "return type('X' * 10**6 + '\\ud800', (), {})()",
        "invalid_result",
        "error",
    ),
    ends("keys that hang when compared end the call", _KEYS, "success", "timeout", timeout_ms=300),
    ends(
        "a text under 64 names is too large",
        "return load('functools').reduce(lambda a, _: {'k' * 10**4: a}, range(60), 1)",
        "output_too_large",
    ),
)
