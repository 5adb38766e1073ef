"""Memory, loops, recursion, descriptors, output without end, and crashes."""

from tests.sandbox.attacks.attack import ends, gives, refused

MEMORY = {
    "10 GB at once": "bytearray(10**10)",
    "10 GB of text": "'x' * 10**10",
    "a billion references": "[None] * 10**9",
    "memory bit by bit": "x = []\nwhile True: x.append(bytearray(10**6))",
    "memory by doubling": "x = [0]\nwhile True: x += x",
    "a text by doubling": "x = 'x'\nwhile True: x += x",
    "a dict that grows": "dict.fromkeys(range(10**8))",
    "a list without end": "list(load('itertools').count())",
    "a list of permutations": "list(load('itertools').permutations(range(12)))",
    "memory in so many pieces that nothing is left to say so": (
        "x = 1\nfor _ in range(10**7): x = {'a': x}"
    ),
    "a padded text": "'x'.ljust(10**10)",
    "a formatted width": "'%10000000000d' % 1",
    "an inflated archive": (
        "zlib = load('zlib')\nx = zlib.compress(bytes(10**7))\n"
        "while True: x = zlib.decompress(x) * 2 if x[0] == 0 else zlib.decompress(x) * 30"
    ),
    "a shift": "1 << 10**11",
    "an array": "load('array').array('Q', bytes(8)) * 10**10",
    "a bound past the exception": "x = []\ntry:\n    while True: x.append('x' * 10**6)\n"
    "except MemoryError:\n    raise",
}

_MAPPING = {
    "10 GB are not mapped": "mmap.mmap(-1, 10**10)",
    "10 GB are not mapped for others": "mmap.mmap(-1, 10**10, flags=mmap.MAP_SHARED)",
    "10 GB are not mapped without reserve": "mmap.mmap(-1, 10**10, flags=0x4022)",
    "the space is not mapped piece by piece": "kept = [mmap.mmap(-1, 2**24) for _ in range(1000)]",
}

_TALKING = {
    "a text without end on stdout": "while True: print('x' * 10**5)",
    "bytes without end on the standard output": "while True: os.write(1, bytes(10**5))",
}

ATTACKS = (
    *(ends(f"{name} is out of memory", body, "out_of_memory") for name, body in MEMORY.items()),
    *(refused(name, body, by=["ENOMEM"]) for name, body in _MAPPING.items()),
    ends(
        "memory that is asked for again and again ends at the deadline",
        "x = []\nwhile True:\n    try: x.append(bytearray(10**6))\n    except MemoryError: pass",
        "timeout",
    ),
    gives(
        "a program may live on without memory that it did not get",
        "try: return bytearray(10**10)\nexcept MemoryError: return 'lives'",
        "lives",
    ),
    ends("a loop ends at the deadline", "while True: pass", "timeout"),
    ends(
        "a loop that catches everything ends at the deadline",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timeout",
    ),
    ends("a loop of generators ends at the deadline", "for _ in iter(int, 1): pass", "timeout"),
    ends("a sleep ends at the deadline", "time.sleep(100)", "timeout"),
    ends(
        "a lock that nobody opens ends at the deadline",
        "lock = load('_thread').allocate_lock()\nlock.acquire()\nlock.acquire()",
        "timeout",
    ),
    ends("a wait for a frame of its own ends at the deadline", "return os.read(3, 1)", "timeout"),
    ends("recursion is an error", "return attempt(host)", "error", error="RecursionError"),
    ends(
        "recursion in pure Python without a limit ends the call",
        "sys.setrecursionlimit(10**9)\nreturn attempt(host)",
        "killed",
        "out_of_memory",
        "error",
        "timeout",
        timeout_ms=1_000,
    ),
    ends(
        "recursion through C kills",
        "sys.setrecursionlimit(10**9)\nreturn sorted([1, 2], key=lambda _: attempt(host))",
        "killed",
    ),
    ends(
        "recursion in a repr is an error",
        "x = []\nfor _ in range(10**5): x = [x]\nreturn repr(x)",
        "error",
        error="RecursionError",
    ),
    gives(
        "a deep value is given up without harm",
        "x = []\nfor _ in range(10**6): x = [x]\nreturn 1",
        1,
    ),
    ends("deep JSON is an error", "return json.loads('[' * 10**5)", "error"),
    ends("a deep expression is an error", "eval('(' * 10**5)", "error", "out_of_memory"),
    ends(
        "a long sum of expressions ends the call",
        "return eval('+'.join('1' * 10**5))",
        "error",
        "killed",
        "out_of_memory",
    ),
    ends("digits without end are an error", "int('9' * 10**7)", "error", error="ValueError"),
    refused(
        "descriptors without end are refused",
        "kept = [os.open(host['stdlib'], os.O_RDONLY) for _ in range(100)]",
        by=["EMFILE"],
    ),
    ends("200 MB of a result are too large", "return 'x' * 200_000_000", "output_too_large"),
    ends("a result of many values is too large", "return [{}] * 5_000_000", "output_too_large"),
    ends("a result above the limit is too large", "return 'x' * 512 * 1024", "output_too_large"),
    ends(
        "a result that grows when quoted is too large", "return '\\1' * 10**5", "output_too_large"
    ),
    *(ends(f"{name} ends at the deadline", body, "timeout") for name, body in _TALKING.items()),
    ends("200 MB on stdout are cut", "print('x' * 200_000_000)\nreturn 1", "success"),
    ends(
        "a flood of lines on stderr is cut",
        "for n in range(10**5): print(n, file=sys.stderr)\nreturn 1",
        "success",
    ),
    ends("a message of 50 MB is cut", "raise ValueError('x' * 50_000_000)", "error"),
    ends(
        "a name of an exception of 10 MB is cut",
        "raise type('X' * 10**7, (Exception,), {})",
        "error",
    ),
    ends("a read of address 0 kills", "ctypes.string_at(0)", "killed"),
    ends("a write to address 0 kills", "ctypes.memset(0, 0, 8)", "killed"),
    ends(
        "a write to code kills",
        "ctypes.memset(ctypes.addressof(libc.abs) & ~4095, 0, 8)\n"
        "ctypes.memset(ctypes.cast(libc.abs, ctypes.c_void_p).value, 0, 8)",
        "killed",
    ),
    ends("an abort kills", "os.abort()", "killed"),
    ends("a raised signal kills", "libc.raise_ = 1\nctypes.string_at(1)", "killed"),
    ends(
        "a freed value used again kills",
        "ctypes.pythonapi._Py_Dealloc(ctypes.py_object(host))\n"
        "ctypes.memset(id(host), 255, 64)\nreturn host",
        "killed",
    ),
    ends(
        "a broken interpreter kills", "ctypes.memset(id(type(host)), 255, 400)\nreturn {}", "killed"
    ),
)
