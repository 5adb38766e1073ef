"""The same in JavaScript and TypeScript: what Deno offers, and what its engine does on its own."""

from typing import Literal

from tests.sandbox.attacks.attack import LONG_MS, SHORT_MS, Attack, End

_TEXT = """
SETUP
ASYNC function attempt(host) {
  BODY
}

export async function run(value) {
  if (value === "look") return [];
  CALL
}
"""
_RETURNED = "return await attempt(value);"
_DENIED = ("NotCapable", "PermissionDenied", "TypeError", "ReferenceError", "NotFound", "Error")
"""What Deno says of what is not allowed, or not there."""


def _text(setup: str, body: str, call: str) -> str:
    kind = "async" if "await " in body else ""
    return (
        _TEXT.replace("CALL", call)
        .replace("SETUP", setup)
        .replace("ASYNC", kind)
        .replace("BODY", body.replace("\n", "\n  "))
    )


def _refused(name: str, body: str) -> Attack:
    text = (
        f"async (host) => {{ try {{ return ['reached', String(await (async () => {{ {body} }})())]"
        " } catch (error) { return ['refused', error?.name ?? 'nothing'] } }"
    )
    return Attack(
        name=name, text=text, alone=False, ends=("refused",), by=_DENIED, language="javascript"
    )


def _invalid(name: str, expression: str) -> Attack:
    text = f"(host) => ({expression})"
    return Attack(
        name=name, text=text, alone=False, ends=("invalid_result",), language="javascript"
    )


def _ends(
    name: str,
    body: str,
    *kinds: End,
    setup: str = "",
    language: Literal["javascript", "typescript"] = "javascript",
) -> Attack:
    return Attack(
        name=name,
        text=_text(setup, body, _RETURNED),
        ends=kinds,
        # A process of Deno takes longer to come to a stop.
        timeout_ms=2 * SHORT_MS if "timeout" in kinds else LONG_MS,
        language=language,
    )


def _gives(name: str, body: str, value: object, *, setup: str = "") -> Attack:
    text = _text(setup, body, _RETURNED)
    return Attack(name=name, text=text, ends=("success",), value=value, language="javascript")


def _unloadable(name: str, setup: str) -> Attack:
    text = _text(setup, "", "")
    return Attack(name=name, text=text, ends=("unloadable",), language="javascript")


_REACHING = {
    "a file of the host is not imported": "return (await import(`file://${host.file}`)).default",
    "a file of the host is not imported as JSON": (
        "return await import(`file://${host.file}`, { with: { type: 'json' } })"
    ),
    "a file of the host is not imported as text": (
        "return (await import(`file://${host.file}`, { with: { type: 'text' } })).default"
    ),
    "the list of users is not imported": "return await import('file:///etc/passwd')",
    "the runner's source is not imported": (
        "return await import('file:///cell/loopai/sandbox/inside/python.py')"
    ),
    "a module of the network is not imported": "return await import('http://127.0.0.1/x.js')",
    "a package is not imported": "return await import('npm:left-pad')",
    "a package of jsr is not imported": "return await import('jsr:@std/fs')",
    "node's files are not imported": "return await import('node:fs')",
    "node's processes are not imported": "return await import('node:child_process')",
    "node's machine is not imported": "return await import('node:vm')",
    "node's workers are not imported": "return await import('node:worker_threads')",
    "node's inspector is not imported": "return await import('node:inspector')",
    "node's modules are not required": "return require('fs')",
    "a file is not read": "return Deno.readTextFileSync(host.file)",
    "a file is not read later": "return await Deno.readTextFile(host.file)",
    "a file is not written": "return Deno.writeTextFileSync('/tmp/attack-file', 'x')",
    "a temporary file is not made": "return Deno.makeTempFileSync()",
    "a folder is not listed": "return [...Deno.readDirSync('/')].length",
    "a link is not made": "return Deno.symlinkSync('/', '/tmp/attack-link')",
    "a file is not deleted": "return Deno.removeSync(host.file)",
    "processes are not read": "return Deno.readTextFileSync('/proc/1/environ')",
    "the environment is not told": "return JSON.stringify(Deno.env.toObject())",
    "a variable is not told": "return Deno.env.get('PATH')",
    "the host's name is not told": "return Deno.hostname()",
    "the release of the system is not told": "return Deno.osRelease()",
    "the memory of the system is not told": "return JSON.stringify(Deno.systemMemoryInfo())",
    "the interfaces of the network are not told": "return Deno.networkInterfaces()",
    "a program is not run": "return new Deno.Command(host.python).outputSync().code",
    "a signal is not sent": "return Deno.kill(1, 'SIGKILL')",
    "a library is not opened": "return Deno.dlopen('libc.so.6', {})",
    "memory is not read by address": (
        "return new Deno.UnsafePointerView(Deno.UnsafePointer.create(4096n)).getUint8()"
    ),
    "a permission is not granted": "return (await Deno.permissions.request({ name: 'ffi' })).x.x",
    "a page is not fetched": "return (await fetch('http://127.0.0.1:8080/health')).status",
    "a file is not fetched": "return await (await fetch(`file://${host.file}`)).text()",
    "a connection is not made": "return await Deno.connect({ port: 4222 })",
    "a local connection is not made": (
        "return await Deno.connect({ transport: 'unix', path: '/tmp/x' })"
    ),
    "a port is not listened to": "return Deno.listen({ port: 0 })",
    "a datagram is not sent": "return Deno.listenDatagram({ port: 0, transport: 'udp' })",
    "a name is not resolved": "return await Deno.resolveDns('example.org', 'A')",
    "no worker is started": "return new Worker('data:,', { type: 'module' })",
    "no machine code is made": "return new WebAssembly.Module(new Uint8Array(8))",
    "no memory for machine code is made": "return new WebAssembly.Memory({ initial: 1000 })",
    "a database is not opened": "return await Deno.openKv()",
}

_STALLING = {
    "a loop": "for (;;) ;",
    "a loop that catches everything": "for (;;) { try { for (;;) ; } catch { } }",
    "a promise that never settles": "return await new Promise(() => {})",
    "a thenable that never settles": "return { then() {} }",
    "a thenable that hangs": "return { then() { for (;;) ; } }",
    "a loop of awaits": "for (;;) await null;",
    "a flood of microtasks": (
        "const again = () => queueMicrotask(again); again(); for (;;) await 0;"
    ),
    "a flood of timers": "for (;;) await new Promise((done) => setTimeout(done, 0))",
    "a catastrophic pattern": "return /^(a+)+$/.test('a'.repeat(40) + '!')",
    "a catastrophic replacement": "return 'x'.repeat(60).replace(/(x|x)*y/, '')",
    "a power of large integers": "return 9n ** (9n ** 9n)",
    "a sort that never ends": "return [1, 2].sort(() => { for (;;) ; })",
    "a generator without end": "for (const _ of (function* () { for (;;) yield 1; })()) ;",
    "a wait for a shared number": (
        "return Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"
    ),
    "a deadline whose timer is patched": (
        "globalThis.setTimeout = () => 0; Promise.race = () => new Promise(() => {}); for (;;) ;"
    ),
}

_MEMORY = {
    "10 GB of a buffer": "return new ArrayBuffer(10 ** 10).byteLength",
    "10 GB of a shared buffer": "return new SharedArrayBuffer(10 ** 10).byteLength",
    "buffers one by one": ("const kept = []; for (;;) kept.push(new Uint8Array(10 ** 6).fill(1))"),
    "a buffer that grows": (
        "const one = new ArrayBuffer(1, { maxByteLength: 10 ** 9 });\n"
        "one.resize(10 ** 9); return new Uint8Array(one).fill(1).length"
    ),
    "objects without end": "const kept = []; for (;;) kept.push({ at: kept.length })",
    "texts without end": "let text = 'x'; for (;;) text += text + Math.random()",
}

_INVALID = {
    "undefined inside": "[undefined]",
    "a function": "() => 1",
    "a symbol": "Symbol('a')",
    "a large integer": "10n",
    "a large integer inside": "{ a: [1n] }",
    "not a number": "NaN",
    "infinity inside": "[Infinity]",
    "2**53 + 2": "2 ** 53 + 2",
    "a lone surrogate": "'\\ud800'",
    "a lone surrogate in a key": "{ '\\udfff': 1 }",
    "a map": "new Map([[1, 2]])",
    "a set": "new Set([1])",
    "a date": "new Date(0)",
    "a pattern": "/a/",
    "bytes": "new Uint8Array(2)",
    "an error": "new Error('x')",
    "an instance": "new (class Point { x = 1 })()",
    "a depth of 65": "Array(65).fill(0).reduce((a) => [a], 1)",
    "a depth of 5000": "Array(5000).fill(0).reduce((a) => [a], 1)",
    "an object in itself": "(() => { const a = {}; a.a = a; return a })()",
    "an array in itself": "(() => { const a = []; a.push(a); return a })()",
}

_THROWN = {
    "null": "null",
    "undefined": "undefined",
    "a number": "7",
    "a symbol": "Symbol('a')",
    "an object without a prototype": "Object.create(null)",
    "an object whose text throws": "{ toString() { throw 1 } }",
    "an error whose message throws": (
        "Object.defineProperty(new Error('x'), 'message', { get() { throw 1 } })"
    ),
    "an error whose stack throws": (
        "Object.defineProperty(new Error('x'), 'stack', { get() { throw 1 } })"
    ),
    "an error of a large name": "Object.assign(new Error('x'), { name: 'X'.repeat(1e7) })",
    "an error of 50 MB": "new Error('x'.repeat(5e7))",
    "a proxy that throws": "new Proxy(new Error('x'), { get() { throw 1 } })",
    "a dead proxy": "(() => { const p = Proxy.revocable({}, {}); p.revoke(); throw p.proxy })()",
    "an error with itself as its cause": (
        "(() => { const e = new Error('x'); e.cause = e; return e })()"
    ),
}

_PATCHES = {
    "patched JSON": "JSON.stringify = () => '\"evil\"'; JSON.parse = () => 7;",
    "a patched prototype of objects": "Object.prototype.toJSON = () => 1; ({}).__proto__.x = 1;",
    "a patched prototype of arrays": "Array.prototype.map = Array.prototype.join = () => 'evil';",
    "a patched console": "console.log = null; globalThis.console = null;",
    "patched bytes": "Uint8Array.prototype.subarray = () => new Uint8Array(0);",
    "patched views": "DataView.prototype.setUint32 = DataView.prototype.setBigUint64 = () => {};",
    "patched promises": "Promise.prototype.then = () => {}; Promise.race = () => 1;",
    "a patched encoder": "TextEncoder.prototype.encodeInto = () => ({ read: 1, written: 1e9 });",
    "a patched clock": "performance.now = () => NaN; Date.now = () => NaN;",
    "a setter for every index": (
        "Object.defineProperty(Array.prototype, '0', { set() { throw 1 }, configurable: true });"
    ),
    "a deleted global": "for (const key of Object.getOwnPropertyNames(globalThis)) "
    "{ try { delete globalThis[key] } catch { } }",
    "a timer that is left": "setInterval(() => { for (;;) ; }, 1);",
    "a rejection that nobody handles": "Promise.reject(new Error('late'));",
    "a microtask that throws": "queueMicrotask(() => { throw new Error('late') });",
    "a microtask that hangs": "setTimeout(() => { for (;;) ; }, 0);",
    "an event that ends the process": "addEventListener('unload', () => { for (;;) ; });",
}

_TALKING = {
    "the standard output": "Deno.stdout.writeSync(new Uint8Array(100)); return 1",
    "the standard error": "Deno.stderr.writeSync(new Uint8Array(100)); return 1",
    "a flood of lines": "for (let n = 0; n < 1e5; n++) console.log(n); return 1",
    "a line of 50 MB": "console.log('x'.repeat(5e7)); return 1",
}

_EVIL = {
    "a getter that throws": "({ get a() { throw new Error('no') } })",
    "a proxy whose keys throw": "new Proxy({}, { ownKeys() { throw new Error('no') } })",
    "a thenable that throws": "({ get then() { throw new Error('no') } })",
    "an array whose items throw": (
        "Object.defineProperty([1], 0, { get() { throw new Error('no') } })"
    ),
}

ATTACKS = (
    *(_refused(name, body) for name, body in _REACHING.items()),
    *(_ends(f"{name} ends at the deadline", body, "timeout") for name, body in _STALLING.items()),
    *(_ends(f"{name} is out of memory", body, "out_of_memory") for name, body in _MEMORY.items()),
    *(_invalid(f"{name} is no result", expression) for name, expression in _INVALID.items()),
    *(
        _ends(f"throwing {name} is an error", f"throw {expression}", "error")
        for name, expression in _THROWN.items()
    ),
    *(
        _ends(f"{name} is an error", f"return {expression}", "error")
        for name, expression in _EVIL.items()
    ),
    *(
        _ends(
            f"{name} is only its own",
            f"{body}\nreturn 1",
            *("success", "error", "timeout", "killed", "invalid_result"),
        )
        for name, body in _PATCHES.items()
    ),
    *(_ends(f"{name} is harmless", body, "success", "error") for name, body in _TALKING.items()),
    _ends("an exit of Deno kills", "Deno.exit(0)", "killed", "error"),
    _ends("an exit of the process kills", "process.exit(0)", "killed", "error"),
    _ends("an abort kills", "process.abort()", "killed", "error"),
    _ends("recursion is an error", "return attempt(host)", "error", "out_of_memory"),
    _ends("a result of 200 MB is too large", "return 'x'.repeat(2e8)", "output_too_large"),
    _ends("a million results are too large", "return Array(1e6).fill({})", "output_too_large"),
    _ends(
        "a result that names another a billion times is too large",
        "return Array(9).fill(0).reduce((a) => Array(10).fill(a), 'x')",
        "output_too_large",
    ),
    _ends(
        "an array that lies about its length is too large",
        "return new Proxy([], { get: (a, key) => key === 'length' ? 1e9 : 1 })",
        "output_too_large",
        "out_of_memory",
        "timeout",
    ),
    _ends(
        "a getter that hangs ends at the deadline", "return { get a() { for (;;) ; } }", "timeout"
    ),
    _ends(
        "a proxy that hangs ends at the deadline",
        "return new Proxy({}, { ownKeys() { for (;;) ; } })",
        "timeout",
    ),
    _ends(
        "a text of an error that hangs ends at the deadline",
        "throw Object.defineProperty(new Error('x'), 'message', { get() { for (;;) ; } })",
        "timeout",
    ),
    _gives("the path of Deno is the cell's", "return Deno.execPath()", "/cell/deno"),
    _gives("eval is only itself", "return eval('1 + 1')", 2),
    _gives("nothing answers for toJSON", "return { a: 1, toJSON: undefined }.a", 1),
    _gives(
        "no prototype of another program is seen",
        "return [({}).evil ?? null, typeof ([].map), JSON.stringify([1])]",
        [None, "function", "[1]"],
    ),
    _gives("arguments are none of the runner's", "return JSON.stringify(Deno.args)", "[]"),
    _ends(
        "a typed program is no less confined",
        "const path: string = host.file;\nreturn Deno.readTextFileSync(path)",
        "error",
        language="typescript",
    ),
    _ends(
        "a typed loop ends at the deadline",
        "const n: number = 1;\nfor (; n;) ;",
        "timeout",
        language="typescript",
    ),
    _unloadable("a hang while it is loaded", "for (;;) ;"),
    _unloadable("a promise that never settles while it is loaded", "await new Promise(() => {});"),
    _unloadable("an exception while it is loaded", "throw new Error('no');"),
    _unloadable("an exit while it is loaded", "Deno.exit(0);"),
    _unloadable("a file of the host imported by a statement", "import 'file:///etc/passwd';"),
    _unloadable("a module of node imported by a statement", "import fs from 'node:fs';"),
    _unloadable("a program that does not parse", "const ;"),
    _unloadable("a lack of memory while it is loaded", "new ArrayBuffer(1e11);"),
)
