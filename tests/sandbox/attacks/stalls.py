"""C code that never looks at a signal, and programs that see to it that none comes."""

from tests.sandbox.attacks.attack import ends

_STALLS = {
    "a sum of 10**10 numbers": "sum(range(10**10))",
    "a queue that counts for ever": "load('collections').deque(load('itertools').count(), 0)",
    "a key derived 10**8 times": "load('hashlib').pbkdf2_hmac('sha256', b'', b'', 10**8)",
    "a catastrophic pattern": "load('re').match('(a+)+b', 'a' * 60)",
    "a catastrophic replacement": "load('re').sub('(x|x)*y', '', 'x' * 60)",
    "a tower of powers": "9**9**9",
    "a power of a power modulo a large number": "pow(3, 10**20000, 7**20000)",
    "a factorial": "load('math').factorial(10**8)",
    "a maximum of for ever": "max(load('itertools').repeat(1))",
    "an all of for ever": "all(load('itertools').repeat(True))",
    "a search in for ever": "1 in load('itertools').repeat(0)",
    "a zip of for ever": "load('collections').deque(zip(load('itertools').count()), 0)",
    "a join of nothing for ever": "set(load('itertools').repeat(1))",
    "a decimal of a billion digits": (
        "d = load('decimal')\nd.getcontext().prec = 10**6\nwhile True: d.Decimal(2).sqrt()"
    ),
    "a copy of a copy for ever": "x = bytearray(10**7)\nwhile True: x[:] = x[::-1]",
    "a sleep in C": "libc.sleep(1000)",
    "a comparison for ever": (
        "class Same:\n    def __lt__(self, other):\n        while True: pass\n"
        "sorted([Same(), Same()])"
    ),
}

_DEAF = {
    "an alarm that is ignored": "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "an alarm that is handled": "signal.signal(signal.SIGALRM, lambda *_: None)",
    "a timer that is switched off": "signal.setitimer(signal.ITIMER_REAL, 0)",
    "a timer that is set far away": "signal.setitimer(signal.ITIMER_REAL, 10**6)",
    "a signal that is blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "a storm of timers": (
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)"
    ),
    "a deadline that is caught": (
        "frame = sys._getframe()\n"
        "while 'Deadline' not in frame.f_globals: frame = frame.f_back\n"
        "frame.f_globals['Deadline'] = OSError"
    ),
    "a handler that hangs": (
        "def hang(*_):\n    while True: pass\nsignal.signal(signal.SIGALRM, hang)"
    ),
}

ATTACKS = (
    *(ends(f"{name} ends at the deadline", body, "timeout") for name, body in _STALLS.items()),
    *(
        ends(f"{name} does not move the deadline", f"{body}\nwhile True: pass", "timeout")
        for name, body in _DEAF.items()
    ),
    ends(
        "an alarm of the system's kind ends the call",
        "signal.signal(signal.SIGALRM, signal.SIG_DFL)\nwhile True: pass",
        "timeout",
        "killed",
    ),
)
