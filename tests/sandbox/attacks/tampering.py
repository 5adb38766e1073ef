"""The runner itself: its process, its socket, its builtins, and what runs when the call is over."""

from tests.sandbox.attacks.attack import ends, gives, refused, unloadable

_HANG = "\n        while True: pass"


def _frame(output: str, *, count: str = "1", then: str = "while True: pass") -> str:
    """Send a well-formed answer under the batch's own nonce, *count* times."""
    return (
        f"output = {output}\n"
        "one = b'\\x91\\x93\\x00\\x01\\xc6' + len(output).to_bytes(4, 'big') + output\n"
        f"data = memoryview((len(one).to_bytes(4, 'little') + nonce() + one) * {count})\n"
        f"while data: data = data[os.write(3, data):]\n{then}"
    )


ENDINGS = (
    ends("an exit of the process kills", "os._exit(0)", "killed"),
    ends("an exit with an error kills", "os._exit(70)", "killed"),
    ends("an exit of the interpreter is an error", "sys.exit()", "error", error="SystemExit"),
    ends("an interrupt is an error", "raise KeyboardInterrupt", "error", error="KeyboardInterrupt"),
    ends("a generator's end is an error", "raise GeneratorExit", "error", error="GeneratorExit"),
    ends("an end of iteration is an error", "next(iter(()))", "error", error="StopIteration"),
    ends("a closed data socket kills", "os.close(3)\nreturn 1", "killed"),
    ends("descriptors all closed kill", "os.closerange(0, 99)\nreturn 1", "killed"),
    ends(
        "a deadline that is raised by hand ends the call",
        "frame = sys._getframe()\n"
        "while 'Deadline' not in frame.f_globals: frame = frame.f_back\n"
        "raise frame.f_globals['Deadline']",
        "timeout",
        timeout_ms=10_000,
    ),
)

FRAMES = (
    ends(
        "a frame with a wrong nonce kills",
        "os.write(3, (2).to_bytes(4, 'little') + bytes(8) + b'\\x91\\x90')\nreturn 1",
        "killed",
    ),
    ends("a frame with a lying length kills", "os.write(3, b'\\xff' * 12)\nreturn 1", "killed"),
    ends(
        "a frame that is never finished ends at the deadline",
        "os.write(3, (1000).to_bytes(4, 'little') + nonce() + b'\\x91')\nwhile True: pass",
        "timeout",
    ),
    ends(
        "a frame of no results kills",
        "os.write(3, (1).to_bytes(4, 'little') + nonce() + b'\\x90')\nreturn 1",
        "killed",
    ),
    ends(
        "a frame that is no msgpack kills",
        "os.write(3, (2).to_bytes(4, 'little') + nonce() + b'\\xc1\\xc1')\nreturn 1",
        "killed",
    ),
    ends(
        "a frame of a kind that does not exist kills",
        "os.write(3, (4).to_bytes(4, 'little') + nonce() + b'\\x91\\x92\\x7f\\1')\nreturn 1",
        "killed",
    ),
    ends(
        "a frame with a time before time kills",
        "os.write(3, (4).to_bytes(4, 'little') + nonce() + b'\\x91\\x92\\x00\\xff')\nreturn 1",
        "killed",
    ),
    ends(
        "a frame of nests without end kills",
        "os.write(3, (9001).to_bytes(4, 'little') + nonce() + b'\\x91' * 9001)\nreturn 1",
        "killed",
    ),
    ends(
        "garbage to every descriptor kills",
        "for fd in range(32):\n    try: os.write(fd, b'garbage' * 9)\n    except OSError: pass\n"
        "return 1",
        "killed",
    ),
    ends("a flood of the data socket kills", "while True: os.write(3, bytes(10**5))", "killed"),
    ends("a flood of single bytes kills", "while True: os.write(3, b'\\0')", "killed"),
    ends("a forged answer on two lines is no result", _frame("b'[1,\\n2]'"), "invalid_result"),
    ends("a forged answer that is not a number is no result", _frame("b'NaN'"), "invalid_result"),
    ends("a forged integer beyond 2**53 is no result", _frame("b'9' * 20"), "invalid_result"),
    ends("a forged lone surrogate is no result", _frame("b'\"\\\\ud800\"'"), "invalid_result"),
    ends("a forged answer that is no text is no result", _frame("b'\\xff'"), "invalid_result"),
    ends("a forged empty answer is no result", _frame("b''"), "invalid_result"),
    ends(
        "a forged deep answer is no result", _frame("b'[' * 5000 + b']' * 5000"), "invalid_result"
    ),
    ends(
        "a forged answer above the limit is too large",
        _frame("b'\"' + b'x' * 600_000 + b'\"'"),
        "output_too_large",
    ),
    ends("a forged answer to itself is only its own", _frame("b'{\"a\": 1}'"), "success"),
    ends(
        "answers to later calls are not believed",
        _frame("b'\"evil\"'", count="3", then="return 1"),
        "success",
        "killed",
    ),
    ends(
        "an answer before the question is asked kills",
        _frame("b'1'", then=_frame("b'2'")),
        "success",
        "killed",
    ),
)

PATCHES = {
    "a patched len": "__builtins__['len'] = sys.modules['builtins'].len = lambda _: 0",
    "a patched isinstance": "sys.modules['builtins'].isinstance = lambda *_: True",
    "a patched type": "sys.modules['builtins'].type = lambda _: str",
    "a patched decoder": "json.loads = lambda *_: 1 / 0",
    "a patched clock": "time.monotonic = lambda: -1e300",
    "a patched importer": "sys.modules['builtins'].__import__ = None",
    "an emptied list of modules": "sys.modules.clear()",
    "an import hook": "sys.meta_path.insert(0, None)\nsys.path_hooks.insert(0, None)",
    "a patched excepthook": "sys.excepthook = sys.unraisablehook = None",
    "a closed stdout": "sys.stdout = sys.stderr = None",
    "a collector that is off": "load('gc').disable()",
    "an atexit handler": "load('atexit').register(os._exit, 3)",
    "a short switch interval": "sys.setswitchinterval(1e-9)",
    "an audit hook": "sys.addaudithook(lambda *_: None)",
    "a finder for lines": "load('linecache').cache.clear()",
}

PATCHED_RUNNER = (
    ends(
        "a patched encoder's answer is checked by the host",
        "sys.modules['loopai.sandbox.inside.result'].encode = lambda *_: b'\\xff'\nreturn 1",
        "invalid_result",
    ),
    ends(
        "a patched encoder without a limit does not pass the host's",
        "sys.modules['loopai.sandbox.inside.result'].encode = lambda *_: b'1' * 700_000\nreturn 1",
        "output_too_large",
    ),
    ends(
        "a patched encoder that sends a gigabyte is out of memory or killed",
        "sys.modules['loopai.sandbox.inside.result'].encode = lambda *_: b'1' * 2**30\nreturn 1",
        "out_of_memory",
    ),
    ends(
        "a patched encoder that hangs ends at the deadline",
        "def hang(*_):\n    while True: pass\n"
        "sys.modules['loopai.sandbox.inside.result'].encode = hang\nreturn 1",
        "timeout",
    ),
    ends(
        "a patched wire cannot speak",
        "sys.modules['loopai.sandbox.inside.wire'].integer = lambda _: b'\\xc1'\nreturn 1",
        "killed",
    ),
    ends(
        "a patched description of failures cannot speak",
        "sys.modules['loopai.sandbox.inside.result'].describe = lambda *_: (1, 2)\nraise KeyError",
        "error",
        "killed",
    ),
)

LATE = (
    ends(
        "a destructor that hangs ends at the deadline",
        f"class Left:\n    def __del__(self):{_HANG}\nx = Left()\nreturn 1",
        "timeout",
        "success",
    ),
    ends(
        "a destructor that ends the process kills",
        "class Left:\n    def __del__(self): os._exit(0)\nreturn [Left()]",
        "killed",
        "invalid_result",
    ),
    ends(
        "a destructor that writes frames kills",
        "class Left:\n    def __del__(self): os.write(3, b'x' * 99)\nreturn [Left()]",
        "killed",
        "invalid_result",
    ),
    ends(
        "a destructor that comes back is an invalid result",
        "class Left:\n    def __del__(self): kept.append(self)\nreturn Left()",
        "invalid_result",
        setup="kept = []",
    ),
    ends(
        "a trace function that hangs ends at the deadline",
        "def hang(*_):\n    while True: pass\nsys.settrace(hang)\nreturn 1",
        "timeout",
    ),
    ends(
        "a trace function that ends the process kills",
        "sys.settrace(lambda *_: os._exit(0))\nreturn 1",
        "killed",
    ),
    ends(
        "a profile function that hangs ends at the deadline",
        "def hang(*_):\n    while True: pass\nsys.setprofile(hang)\nreturn 1",
        "timeout",
    ),
    ends(
        "a collector's callback that hangs ends at the deadline",
        "def hang(*_):\n    while True: pass\n"
        "gc = load('gc')\ngc.callbacks.append(hang)\ngc.collect()\nreturn 1",
        "timeout",
        "success",
    ),
    ends(
        "a stdout that hangs ends at the deadline",
        f"class Out:\n    def write(self, text):{_HANG}\nsys.stdout = Out()\nprint(1)",
        "timeout",
    ),
    ends(
        "a codec that hangs ends at the deadline",
        "def hang(*_):\n    while True: pass\nload('codecs').register(hang)\nb'x'.decode('attack')",
        "timeout",
    ),
)


def _evil(body: str) -> str:
    return f"class Evil(Exception):\n    {body}\n"


EXCEPTIONS = (
    ends(
        "an exception whose text raises is an error",
        "raise Evil",
        "error",
        setup=_evil("def __str__(self): raise KeyError('no')"),
    ),
    ends(
        "an exception whose text exits is an error",
        "raise Evil",
        "error",
        setup=_evil("def __str__(self): raise SystemExit"),
    ),
    ends(
        "an exception whose text is no text is an error",
        "raise Evil",
        "error",
        setup=_evil("def __str__(self): return 7"),
    ),
    ends(
        "an exception whose text hangs ends at the deadline",
        "raise Evil",
        "timeout",
        setup=_evil(f"def __str__(self):{_HANG}"),
    ),
    ends(
        "an exception whose representation hangs is an error or a timeout",
        "raise Evil",
        "error",
        "timeout",
        setup=_evil(f"def __repr__(self):{_HANG}"),
    ),
    ends(
        "an exception whose representation raises is an error",
        "raise Evil",
        "error",
        error="Evil",
        setup=_evil("def __repr__(self): raise SystemExit"),
    ),
    ends(
        "an exception that lies about its class is an error",
        "raise Evil",
        "error",
        setup=_evil("__class__ = property(lambda self: 1 / 0)"),
    ),
    ends(
        "an exception whose attributes raise is an error",
        "raise Evil",
        "error",
        setup=_evil("def __getattribute__(self, name): raise SystemExit"),
    ),
    ends(
        "an exception of a metaclass without a name is an error",
        "raise Evil",
        "error",
        setup="class Meta(type):\n    __name__ = property(lambda self: 1 / 0)\n"
        "class Evil(Exception, metaclass=Meta): pass\n",
    ),
    ends(
        "a chain of exceptions that bites its tail is an error",
        "error = Evil()\nerror.__cause__ = error.__context__ = error\nraise error",
        "error",
        error="Evil",
        setup=_evil("pass"),
    ),
    ends(
        "a chain of 10**5 exceptions is an error",
        "error = None\nfor _ in range(10**5):\n    last = Evil()\n    last.__cause__ = error\n"
        "    error = last\nraise error",
        "error",
        error="Evil",
        setup=_evil("pass"),
    ),
    ends(
        "a group of exceptions is an error",
        "raise ExceptionGroup('x' * 10**6, [Evil()] * 10**5)",
        "error",
        error="ExceptionGroup",
        setup=_evil("pass"),
    ),
    ends(
        "a syntax error that lies about its line ends the call",
        "error = SyntaxError('x')\nerror.filename = 'program.py'\n"
        "error.lineno = error.msg = Evil()\nraise error",
        "error",
        "killed",
        setup=_evil("def __str__(self): raise SystemExit"),
    ),
    ends(
        "a memory error with a hanging text ends at the deadline",
        "raise Evil",
        "timeout",
        "out_of_memory",
        setup="class Evil(MemoryError):\n    def __str__(self):\n        while True: pass\n",
    ),
    ends(
        "a text of an exception with lone surrogates is an error",
        "raise ValueError('\\ud800' * 5000)",
        "error",
        error="ValueError",
    ),
    ends(
        "an encoder's own exception is an error of the program",
        "raise sys.modules['loopai.sandbox.inside.result'].InvalidError('x' * 10**6)",
        "invalid_result",
        "error",
    ),
)

_MEMORY = {
    "a small integer that changed its value": "ctypes.memset(id(7) + 24, 9, 1)",
    "a type with a method of its own": (
        "slots = load('gc').get_referents(dict.__dict__)[0]\nslots['items'] = lambda self: [(1, 2)]"
    ),
    "a code object that was exchanged": (
        "inside = sys.modules['loopai.sandbox.inside.python']\n"
        "inside._read.__code__ = (lambda into: 0).__code__"
    ),
}

LOADING = (
    unloadable("a hang while it is loaded", "while True: pass"),
    unloadable("a hang in C while it is loaded", "sum(range(10**11))"),
    unloadable("an exit while it is loaded", "os._exit(0)"),
    unloadable("an exception while it is loaded", "1 / 0"),
    unloadable("an exit of the interpreter while it is loaded", "raise SystemExit"),
    unloadable("a lack of memory while it is loaded", "bytearray(10**10)"),
    unloadable("garbage while it is loaded", "os.write(3, b'x' * 64)\nsum(range(10**11))"),
    unloadable(
        "a deaf hang while it is loaded",
        "signal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
    ),
    unloadable("a crash while it is loaded", "ctypes.string_at(0)"),
    unloadable(
        "an exception without a text while it is loaded",
        "class Evil(Exception):\n    def __str__(self):\n        while True: pass\nraise Evil",
    ),
)

ATTACKS = (
    *ENDINGS,
    *FRAMES,
    *(
        ends(
            f"{name} is only its own",
            f"{body}\nreturn 1",
            "success",
            "error",
            "killed",
            "invalid_result",
            "timeout",
        )
        for name, body in (PATCHES | _MEMORY).items()
    ),
    *PATCHED_RUNNER,
    *LATE,
    *EXCEPTIONS,
    *LOADING,
    gives(
        "a traceback shows no line of the runner",
        "traceback = load('traceback')\ntry: 1 / 0\nexcept ZeroDivisionError:\n"
        "    return 'setitimer' in traceback.format_exc()",
        value=False,
    ),
    refused(
        "the progress page is not shrunk",
        "for fd in range(4, 32): os.ftruncate(fd, 0)",
        by=["EBADF", "EPERM"],
    ),
)
