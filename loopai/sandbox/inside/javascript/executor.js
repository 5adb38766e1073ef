// The executor of programs in JavaScript and TypeScript: hardens itself for good, then loads a
// program and runs its calls. From then on this process is the program's: nothing that it sends is
// believed without a check by the host. Frames and outcomes are those of python.py.

import { brief, called, described, isLackOfMemory, traced } from "./failures.js";
import * as frames from "./frames.js";
import { encoded, InvalidError, TooLargeError } from "./results.js";

const PAGE_BYTES = 4096;
const PR_SET_DUMPABLE = 4, RLIMIT_NPROC = 6, CLOCK_MONOTONIC = 1;
const SECCOMP_SET_MODE_FILTER = 1, SECCOMP_FILTER_FLAG_TSYNC = 1;
const AT_PHDR = 3n, AT_PHENT = 4n, AT_PHNUM = 5n, AT_PAGESZ = 6n;
const PT_LOAD = 1, PT_PHDR = 6, PF_W = 2, MADV_DONTNEED = 4;
const O_CLOEXEC = 0x80000, UFFD_USER_MODE_ONLY = 1;
const UFFD_API = 0xaa, UFFD_FEATURE_WP_ASYNC = 1 << 15;
const UFFDIO_API = 0xc018aa3f, UFFDIO_REGISTER = 0xc020aa00, UFFDIO_REGISTER_MODE_WP = 2;

const limits = JSON.parse(Deno.args[0]);
const config = JSON.parse(Deno.args[1]);

const libc = Deno.dlopen("libc.so.6", {
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  close: { parameters: ["i32"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  syscall: { parameters: ["i64", "u64", "u64", "buffer"], result: "i32" },
  malloc_trim: { parameters: ["usize"], result: "i32" },
  getauxval: { parameters: ["u64"], result: "u64" },
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
}).symbols;

// Kept from before the program: it may put others in their place, and only its own calls would
// suffer, but an honest program that extends a prototype should not.
const { parse } = JSON;
const now = performance.now.bind(performance);
const Large = BigInt;
const collect = gc;
// Of no prototype that a program could add to.
const SPARING = Object.freeze({ __proto__: null, type: "major", flavor: "last-resort" });
const later = setTimeout, cancel = clearTimeout, again = setInterval;

const page = new DataView(
  Deno.UnsafePointerView.getArrayBuffer(
    libc.mmap(null, PAGE_BYTES, 1 | 2, 1, config.page_fd, 0n), // read and write, shared
    PAGE_BYTES,
  ),
);

class Deadline extends Error {}
class LoadError extends Error {
  name = "LoadError";
}

// --- what a program writes --------------------------------------------------------------------

let captured = [];
let capturable = limits.stdout_bytes_max;

function capture(...values) {
  if (capturable <= 0) return;
  const line = (values.map(brief).join(" ") + "\n").slice(0, capturable);
  // By units of UTF-16; the host cuts by bytes.
  capturable -= line.length;
  captured.push(line);
}

function taken() {
  const written = captured.join("");
  captured = [];
  capturable = limits.stdout_bytes_max;
  return written;
}

function silence() {}

// --- failures ---------------------------------------------------------------------------------

function failed(thrown, started) {
  let status = frames.ERROR, kind = "error", message = "the exception could not be described";
  let found = [];
  try {
    if (thrown instanceof Deadline) {
      [status, kind, message] = [frames.TIMEOUT, "timeout", "timed out"];
    } else if (thrown instanceof TooLargeError) {
      status = frames.OUTPUT_TOO_LARGE;
      kind = "output_too_large";
      message = `the result exceeds ${limits.output_bytes_max} bytes`;
    } else if (thrown instanceof InvalidError) {
      [status, kind, message] = [frames.INVALID_RESULT, "invalid_result", thrown.message];
    } else {
      ({ kind, message, found } = described(thrown));
      if (isLackOfMemory(kind, message)) [status, kind] = [frames.OUT_OF_MEMORY, "out_of_memory"];
    }
  } catch {
    // What was assumed above stands.
  }
  const line = found.length ? found[0][1] : 0;
  const length = limits.message_bytes_max / 4;
  const first = message.split("\n", 1)[0];
  frames.head(8, status);
  frames.integer(elapsed(started));
  frames.binary("");
  frames.string(kind);
  frames.string((line ? `line ${line}: ${message}` : message).slice(0, length).toWellFormed());
  frames.string(taken().toWellFormed());
  frames.integer(line);
  frames.string(traced(found, `${kind}: ${first}`).slice(0, length).toWellFormed());
}

function elapsed(started) {
  return ((now() - started) * 1000) | 0;
}

// --- calls ------------------------------------------------------------------------------------

let run = null;

async function settled(promise, milliseconds) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = later(() => reject(new Deadline()), milliseconds);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    cancel(timer);
  }
}

function succeeded(data, started) {
  const plain = captured.length === 0;
  frames.head(plain ? 3 : 6, frames.SUCCESS);
  frames.integer(elapsed(started));
  frames.binary(data);
  if (plain) return;
  frames.string("");
  frames.string("");
  frames.string(taken().toWellFormed());
}

async function batch(nonce, inputs, seconds) {
  let count = 0;
  let flushed = now();
  for (let index = 0; index < inputs.length; index++) {
    const started = now();
    if (count > 0 && (frames.size() > limits.flush_bytes || started - flushed > limits.flush_ms)) {
      frames.send(nonce, count);
      count = 0;
      flushed = started;
    }
    mark(nonce, index, started);
    const before = frames.size();
    try {
      let value = run(parse(frames.decode(inputs[index])));
      if (typeof value?.then === "function") value = await settled(value, seconds[index] * 1000);
      succeeded(encoded(value, limits.output_bytes_max), started);
    } catch (thrown) {
      frames.cut(before);
      failed(thrown, started);
    }
    stop();
    count++;
  }
  frames.send(nonce, count);
}

function mark(nonce, index, started) {
  page.setBigUint64(0, nonce, true);
  page.setBigInt64(8, Large(index), true);
  page.setFloat64(16, clock + started / 1000, true);
}

async function load(nonce, code, seconds, language) {
  const started = now();
  mark(nonce, 0, started);
  try {
    run = await settled(entry(frames.decode(code), language), seconds * 1000);
    succeeded("", started);
  } catch (thrown) {
    failed(thrown, started);
  }
}

async function entry(code, language) {
  const name = /\brun\b/.test(code) ? "run" : "classify";
  let found;
  if (!/\bexport\b/.test(code)) found = await unexported(code, language, name);
  if (found === undefined) {
    const module = await imported(code, language);
    found = module.run ?? module.classify ?? module.default;
    if (found === module.classify && found !== undefined) return classifier(found);
    // The word may have stood in a comment only.
    found ??= await unexported(code, language, name);
  }
  if (typeof found !== "function") {
    throw new LoadError("the program defines no function run(input)");
  }
  if (/^(?:Async)?GeneratorFunction$/.test(Object.getPrototypeOf(found).constructor.name)) {
    throw new LoadError("run must return its result, not yield it");
  }
  return name === "classify" ? classifier(found) : found;
}

// The function *name* of a program that is written as a script; undefined where it has none. One
// that does not parse with an export has not run either.
async function unexported(code, language, name) {
  try {
    return (await imported(`${code}\nexport { ${name} };`, language))[name];
  } catch (thrown) {
    const unparsed = thrown instanceof SyntaxError || /^SyntaxError: /.test(thrown?.message);
    if (!unparsed) throw thrown;
  }
}

async function imported(code, language) {
  const url = URL.createObjectURL(new Blob([code], { type: `application/${language}` }));
  called(url, language === "typescript" ? "program.ts" : "program.js");
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function classifier(classify) {
  return (value) => {
    if (typeof value === "string") return classify(value);
    const texts = Object.values(value ?? {}).filter((item) => typeof item === "string");
    if (texts.length === 1) return classify(texts[0]);
    throw new TypeError("classify(text) needs a text, or an object with one text field");
  };
}

// --- memory -----------------------------------------------------------------------------------

// The segments of Deno's own file that are never written: [address, bytes] of each. The C library
// knows where the kernel put the program headers (getauxval(3), elf(5)).
function unwritten() {
  const [at, size, count, pageBytes] = [AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ].map(
    (name) => Number(libc.getauxval(name)),
  );
  const table = Deno.UnsafePointer.create(BigInt(at));
  const headers = new DataView(Deno.UnsafePointerView.getArrayBuffer(table, size * count));
  const segments = Array.from({ length: count }, (_, index) => ({
    type: headers.getUint32(index * size, true),
    flags: headers.getUint32(index * size + 4, true),
    address: Number(headers.getBigUint64(index * size + 16, true)),
    bytes: Number(headers.getBigUint64(index * size + 40, true)),
  }));
  const base = at - segments.find(({ type }) => type === PT_PHDR).address;
  return segments.filter(({ type, flags }) => type === PT_LOAD && !(flags & PF_W)).map(
    ({ address, bytes }) => {
      // Whole pages: the last one may be shared with what is written.
      const first = Math.ceil((base + address) / pageBytes) * pageBytes;
      const end = Math.floor((base + address + bytes) / pageBytes) * pageBytes;
      return [Deno.UnsafePointer.create(BigInt(first)), BigInt(end - first)];
    },
  );
}

const file = unwritten();

// A fault maps sixteen pages of a file, of which one was wanted; it maps that one alone where the
// kernel is asked to keep track of writes to the mapping, which nobody makes (userfaultfd(2), from
// Linux 6.7 on; older ones refuse). What is asked for lasts as long as the descriptor.
function sparingly() {
  const fd = asked(config.userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY, 0, []);
  if (fd < 0) return;
  asked(config.ioctl, fd, UFFDIO_API, [UFFD_API, UFFD_FEATURE_WP_ASYNC, 0]);
  for (const [address, bytes] of file) {
    const range = [Deno.UnsafePointer.value(address), bytes];
    asked(config.ioctl, fd, UFFDIO_REGISTER, [...range, UFFDIO_REGISTER_MODE_WP, 0]);
  }
}

function asked(number, first, second, words) {
  const struct = new Uint8Array(BigUint64Array.from(words, BigInt).buffer);
  return libc.syscall(BigInt(number), BigInt(first), BigInt(second), struct);
}

// Most of what a start has read of Deno's 90 MB is never looked at again. What is needed comes back
// from the page cache, a page a fault (ADR 0013).
function forget() {
  libc.malloc_trim(0n);
  for (const [address, bytes] of file) libc.madvise(address, bytes, MADV_DONTNEED);
}

// --- start ------------------------------------------------------------------------------------

let clock = 0;

function harden() {
  const time = new DataView(new ArrayBuffer(16));
  libc.clock_gettime(CLOCK_MONOTONIC, new Uint8Array(time.buffer));
  clock = Number(time.getBigInt64(0, true)) + Number(time.getBigInt64(8, true)) / 1e9 -
    now() / 1000;
  libc.close(config.page_fd);
  const lines = Uint8Array.fromHex(Deno.args[2]);
  const filter = new DataView(new ArrayBuffer(16));
  filter.setUint16(0, lines.length / 8, true);
  const at = Deno.UnsafePointer.value(Deno.UnsafePointer.of(lines));
  filter.setBigUint64(8, BigInt(at), true);
  const refused = libc.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) ||
    libc.setrlimit(RLIMIT_NPROC, new Uint8Array(16)) ||
    libc.syscall(
      BigInt(config.seccomp),
      BigInt(SECCOMP_SET_MODE_FILTER),
      BigInt(SECCOMP_FILTER_FLAG_TSYNC),
      new Uint8Array(filter.buffer),
    );
  if (refused) throw new Error(`hardening refused: ${refused}`);
  Deno.permissions.revokeSync({ name: "ffi" });
}

const timers = new Set();

// The timers of one call must not take the time of the next.
function stop() {
  if (timers.size === 0) return;
  for (const timer of timers) cancel(timer);
  timers.clear();
}

function timed(set, once) {
  return (call, milliseconds, ...values) => {
    const run = () => {
      if (once) timers.delete(timer);
      call(...values);
    };
    const timer = set(run, milliseconds);
    timers.add(timer);
    return timer;
  };
}

function furnish() {
  globalThis.setTimeout = timed(later, true);
  globalThis.setInterval = timed(again, false);
  // What a call leaves behind unhandled must not end the process under the next one.
  for (const [kind, what] of [["unhandledrejection", "reason"], ["error", "error"]]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      capture("Uncaught", brief(event[what]));
    });
  }
  const silent = [
    "group",
    "groupEnd",
    "time",
    "timeEnd",
    "timeLog",
    "count",
    "countReset",
    "clear",
  ];
  globalThis.console = {
    ...Object.fromEntries(silent.map((name) => [name, silence])),
    ...Object.fromEntries(
      ["log", "info", "warn", "error", "debug", "dir", "table", "trace"].map((
        name,
      ) => [name, capture]),
    ),
    assert: (holds, ...values) => holds || capture("Assertion failed:", ...values),
  };
  // A worker would need a thread, WebAssembly machine code of its own: the process would end.
  delete globalThis.Worker;
  delete globalThis.WebAssembly;
  // The host says when there is time for it. It cannot be deleted.
  globalThis.gc = undefined;
  // It leads to modules that a program may not import.
  delete globalThis.process;
  Object.defineProperty(Deno, "args", { value: [] });
}

// Deno makes a thread for its compiler when that is first used, and one for signals when its event
// loop first waits for long; afterwards neither could be made, and the process would end.
Deno.addSignalListener("SIGINT", silence);
Deno.removeSignalListener("SIGINT", silence);
await imported("export const warm: number = 1;", "typescript");
frames.open(libc, config.data_fd, limits.request_bytes_max);
sparingly();
harden();
furnish();
forget();
frames.send(0n, 0);
for (;;) {
  const { nonce, message } = frames.request();
  if (message[0] === frames.LOAD) {
    await load(nonce, message[1], message[2], message[3]);
    forget();
    frames.send(nonce, 1);
  } else if (message[0] === frames.REST) {
    collect(SPARING);
    forget();
    frames.send(nonce, 0);
  } else {
    await batch(nonce, message[1], message[2]);
  }
}
