"""One program in each language: the same input gives the same outcome, and the same answer."""

import json

import pytest

from loopai.sandbox import program
from streams import messages

PYTHON, JAVASCRIPT, TYPESCRIPT = "python", "javascript", "typescript"


def typed(code):
    """The same program with a type where TypeScript has one."""
    return code.replace("(value)", "(value: any): any", 1)


# name: (Python, JavaScript, input, what comes out: an output, or a kind of failure)
ALIKE = {
    "number": ("return value + 1", "return value + 1", 1, 2),
    "fraction": ("return value / 4", "return value / 4", 1, 0.25),
    "text": ("return value + '!'", "return value + '!'", "Grüße 💡\u2028", "Grüße 💡\u2028!"),
    "null": ("return None", "return null", 0, None),
    "list": ("return [value, True, []]", "return [value, true, []]", 0, [0, True, []]),
    "object": (
        "return {'a': value, '': {'b': []}}",
        "return {a: value, '': {b: []}}",
        [1],
        {"a": [1], "": {"b": []}},
    ),
    "what it was given": (
        "return value",
        "return value",
        {"x": [1, 2.5, "\x00"]},
        {"x": [1, 2.5, "\x00"]},
    ),
    "key of a prototype": (
        "return value",
        "return value",
        {"__proto__": 1, "toJSON": 2},
        {"__proto__": 1, "toJSON": 2},
    ),
    "largest integer": ("return 2**53", "return 2**53", 0, 2**53),
    "large float": ("return 1e300", "return 1e300", 0, 1e300),
    "depth of 64": (
        "for _ in range(64): value = [value]\n    return value",
        "for (let n = 0; n < 64; n++) value = [value];\n    return value",
        0,
        json.loads("[" * 64 + "0" + "]" * 64),
    ),
    "half a mebibyte of input": (
        "return len(value)",
        "return value.length",
        "x" * 500_000,
        500_000,
    ),
    "long output": ("return 'x' * value", "return 'x'.repeat(value)", 500_000, "x" * 500_000),
    "many items": (
        "return list(range(value))",
        "return [...Array(value).keys()]",
        5_000,
        list(range(5_000)),
    ),
    "output too large": (
        "return 'x' * value",
        "return 'x'.repeat(value)",
        600_000,
        "output_too_large",
    ),
    "wide output too large": (
        "return 'é' * value",
        "return 'é'.repeat(value)",
        300_000,
        "output_too_large",
    ),
    "infinity": ("return float('inf')", "return Infinity", 0, "invalid_result"),
    "not a number": ("return [float('nan')]", "return [NaN]", 0, "invalid_result"),
    "large integer": ("return 2**53 + 2", "return 2**53 + 2", 0, "invalid_result"),
    "depth of 65": (
        "for _ in range(65): value = [value]\n    return value",
        "for (let n = 0; n < 65; n++) value = [value];\n    return value",
        0,
        "invalid_result",
    ),
    "itself": (
        "v = []; v.append(v); return v",
        "const v = []; v.push(v); return v",
        0,
        "invalid_result",
    ),
    "function": ("return run", "return run", 0, "invalid_result"),
    "class": (
        "class A: pass\n    return A()",
        "class A {}\n    return new A()",
        0,
        "invalid_result",
    ),
    "set": ("return {1}", "return new Set([1])", 0, "invalid_result"),
    "lone surrogate": (r"return '\ud800'", r"return '\ud800'", 0, "invalid_result"),
    "lone surrogate in a key": (
        r"return {'\ud800': 1}",
        r"return {'\ud800': 1}",
        0,
        "invalid_result",
    ),
    "exception": ("raise ValueError('no')", "throw new TypeError('no')", 0, "error"),
    "recursion": ("return run(value)", "return run(value)", 0, "error"),
    "endless loop": ("while True: pass", "for (;;);", 0, "timeout"),
    "too much memory": (
        "return len(bytes(10**10))",
        "return new Uint8Array(10**10).length",
        0,
        "out_of_memory",
    ),
    "end of the process": (
        "json.__builtins__['__import__']('os')._exit(0)",
        "Deno.exit(0)",
        0,
        "killed",
    ),
}


def source(language, name):
    python, javascript, *_ = ALIKE[name]
    if language == PYTHON:
        return f"import json\n\ndef run(value):\n    {python}\n"
    code = f"\n\nexport function run(value) {{\n    {javascript}\n}}\n"
    return typed(code) if language == TYPESCRIPT else code


@pytest.fixture
def run(cells):
    async def run_in(language, code, value=None, **kind):
        outcome = await cells.one(code, value, language=language, **kind)
        if outcome.kind == "success":
            return json.loads(outcome.output)
        return outcome.kind

    return run_in


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("language", [PYTHON, JAVASCRIPT, TYPESCRIPT])
async def test_languages_agree(run, language, name):
    *_, value, expected = ALIKE[name]
    code = source(language, name)
    found = await run(language, code, value, timeout_ms=200 if name == "endless loop" else 5_000)
    assert found == expected


@pytest.mark.parametrize("language", [PYTHON, JAVASCRIPT, TYPESCRIPT])
async def test_failure_says_where(cells, language):
    outcome = await cells.one(source(language, "exception"), language=language)
    assert outcome.line == 4
    assert outcome.message == "line 4: no"
    assert "no" in outcome.traceback
    assert "run" in outcome.traceback
    for runner in ("inside", "executor.js", "init", "/cell", "_call"):
        assert runner not in outcome.traceback


@pytest.mark.parametrize(
    "code",
    [
        "export function run(value) { return value }",
        "function run(value) { return value }",
        "const run = (value) => value;",
        "export const run = (value) => value;",
        "export default function (value) { return value }",
        "export default (value) => value",
        "export function classify(text) { return text }",
        "function classify(text) { return text }",
        "export async function run(value) { return value }",
        "export const run = (value) => new Promise((done) => setTimeout(done, 1, value));",
        "const other = await Promise.resolve(1);\nexport const run = (value) => value;",
    ],
)
async def test_entry_point_may_be_written_in_many_ways(run, code):
    assert await run(JAVASCRIPT, code, "text") == "text"


async def test_typescript_is_more_than_types(run):
    code = "enum Kind { A = 3 }\nclass Box<T> { constructor(public inner: T) {} }\n"
    code += "function run(value: number): number { return new Box(Kind.A).inner + value }"
    assert await run(TYPESCRIPT, code, 1) == 4


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("let a = 1;", "defines no function run"),
        ("export const run = 1;", "defines no function run"),
        ("\nexport function run( {", "line 2"),
        ("\n\nthrow new Error('at once')", "line 3: at once"),
        ("import fs from 'node:fs';\nexport const run = () => 1;", "node:fs is not available"),
        ("import a from './a.js';\nexport const run = () => 1;", "module ./a.js is not available"),
        ("import a from 'npm:left-pad';\nexport const run = () => 1;", "is not available"),
        ("import a from 'https://127.0.0.1/a.js';\nexport const run = () => 1;", "127.0.0.1"),
        ("import a from 'file:///etc/passwd';\nexport const run = () => 1;", "module /etc/passwd"),
        (
            "import a from 'file:///cell/loopai/sandbox/inside/javascript/frames.js';",
            "frames.js is",
        ),
        ("import a from 'file:///cell/loopai/sandbox/inside/javascript/results.js';", "results.js"),
        ("export function* run() {}", "must return its result, not yield it"),
        ("function run(value) {\n return value", "^line 2: Unexpected end of input .SyntaxError.$"),
        ("Deno.exit(3)", "status 3"),
    ],
)
async def test_program_that_does_not_load_says_why(cells, code, reason):
    with pytest.raises(program.LoadError, match=reason):
        await cells.load(code, language=JAVASCRIPT)


@pytest.mark.parametrize("code", ["for (;;);", "await new Promise(() => {});"])
async def test_script_that_hangs_as_it_loads_is_refused(make_cells, code):
    cells = make_cells(load_ms_max=300)
    with pytest.raises(program.LoadError, match="longer than 300 ms"):
        await cells.load(code, language=JAVASCRIPT)


async def test_promise_that_never_settles_times_out_and_costs_no_process(make_cells):
    cells = make_cells(grace_ms=2_000)
    code = "let calls = 0;\nconst never = new Promise(() => {});\n"
    code += "export const run = (value) => (calls++, value ? never : calls);"
    outcomes = await cells.many(code, [0, 1, 0], timeout_ms=100, language=JAVASCRIPT)
    assert [one.kind for one in outcomes] == ["success", "timeout", "success"]
    assert outcomes[2].output == b"3"


async def test_what_a_call_leaves_behind_does_not_end_the_next(run):
    code = """export async function run(value) {
        Promise.reject(new Error("unhandled"));
        setTimeout(() => { throw new Error("late") }, 0);
        await new Promise((done) => setTimeout(done, 5));
        return value;
    }"""
    for value in range(3):
        assert await run(JAVASCRIPT, code, value) == value


async def test_script_runs_once_as_it_loads(run):
    code = "globalThis.loads = (globalThis.loads ?? 0) + 1;\nfunction run() { return loads }"
    assert await run(JAVASCRIPT, code) == 1


async def test_timers_of_one_call_take_no_time_of_the_next(cells):
    code = """export const run = (value) => {
        if (!value) setInterval(() => { for (const end = Date.now() + 50; Date.now() < end;); }, 1);
        return new Promise((done) => setTimeout(done, 5, value));
    }"""
    outcomes = [await cells.one(code, n, timeout_ms=150, language=JAVASCRIPT) for n in (1, 0, 1, 1)]
    assert [one.kind for one in outcomes] == ["success"] * 4


async def test_event_loop_may_wait_long_and_late(cells):
    """The runtime makes a thread when it first waits for long, which must be there by then."""
    code = "export const run = (value) => new Promise((done) => setTimeout(done, value, value));"
    for milliseconds in (700, 1, 700):
        outcome = await cells.one(code, milliseconds, language=JAVASCRIPT)
        assert outcome.kind == "success", outcome
    outcome = await cells.one(code, 10_000, timeout_ms=700, language=JAVASCRIPT)
    assert outcome.kind == "timeout"


@pytest.mark.parametrize("language", [JAVASCRIPT, TYPESCRIPT])
async def test_stack_in_the_output_has_the_program_s_lines_only(cells, language):
    code = "export const run = () => { console.log(new Error('seen')); return 1; }"
    outcome = await cells.one(code, language=language)
    assert "seen" in outcome.stdout
    assert "program." in outcome.stdout
    assert "/cell/" not in outcome.stdout
    assert "blob:" not in outcome.stdout


async def test_patched_globals_do_not_reach_the_runner_s_memory(cells):
    """The sizes of its reads and writes are its own; what a program patches is its own loss."""
    code = """const real = BigInt;
    globalThis.BigInt = (value) => value === 65536 ? 4_000_000n : real(value);
    Object.defineProperty(Object.getPrototypeOf(Uint8Array.prototype), "length",
        { get() { return 4_000_000 } });
    export const run = (value) => typeof value;"""
    for size in (190_000, 300_000, 10):
        outcome = await cells.one(code, "x" * size, language=JAVASCRIPT)
        assert outcome.output == b'"string"', outcome


@pytest.mark.parametrize("size", ["-1", "1.5", "2 ** 40"])
async def test_bad_length_is_an_error_and_no_lack_of_memory(run, size):
    assert await run(JAVASCRIPT, f"export const run = () => new Array({size});") == "error"


async def test_console_is_the_call_s_stdout(cells):
    code = "export const run = (value) => { console.log('a', {b: value}); console.error('c'); }"
    code = code.replace("console.error('c');", "console.error('c'); return 0;")
    outcome = await cells.one(code, 1, language=JAVASCRIPT)
    assert outcome.stdout == "a { b: 1 }\nc\n"
    outcome = await cells.one(code, 2, language=JAVASCRIPT)
    assert outcome.stdout == "a { b: 2 }\nc\n"


async def test_console_is_cut_at_its_limit(make_cells):
    cells = make_cells(stdout_bytes_max=100)
    code = "export const run = () => { for (let n = 0; n < 1000; n++) console.log('é'); return 1; }"
    outcome = await cells.one(code, language=JAVASCRIPT)
    assert outcome.kind == "success"
    assert 50 < len(outcome.stdout.encode()) <= 100


@pytest.mark.parametrize("size", [1, 15, 16, 17, 255, 256, 600])
async def test_batch_of_any_size_is_answered_in_order(cells, size):
    code = "export const run = (value) => value * 2;"
    outcomes = await cells.many(code, list(range(size)), language=JAVASCRIPT)
    assert [json.loads(one.output) for one in outcomes] == [2 * value for value in range(size)]


async def test_large_results_travel_in_several_frames(cells):
    code = "export const run = (value) => 'x'.repeat(value);"
    outcomes = await cells.many(code, [400_000] * 8, language=JAVASCRIPT)
    assert {len(one.output) for one in outcomes} == {400_002}


async def test_language_without_a_runtime_does_not_load(cells):
    outcome = await cells.one("class Program {}", language="csharp")
    assert (outcome.kind, outcome.error_type) == ("error", "LoadError")
    assert "csharp" in outcome.message


def test_every_language_of_the_contract_is_known():
    assert {PYTHON, JAVASCRIPT, TYPESCRIPT} <= set(messages.Language.__args__)
