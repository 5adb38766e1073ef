// The executor of programs in JavaScript and TypeScript: hardens itself for good, then loads a
// program and runs its calls. From then on this process is the program's: nothing that it sends is
// believed without a check by the host. Frames and outcomes are those of python.py and wire.py.

const LOAD = 0;
const SUCCESS = 0, ERROR = 1, TIMEOUT = 2, OUT_OF_MEMORY = 3, OUTPUT_TOO_LARGE = 4, INVALID_RESULT = 5;
const HEADER_BYTES = 12;
const PAGE_BYTES = 4096;
const DEPTH_MAX = 64;
const INTEGER_MAX = 2 ** 53;
const FRAMES_MAX = 20;
// Below it JavaScript writes a whole number as an integer, which other languages read as one.
const EXPONENT_FROM = 1e21;
const PR_SET_DUMPABLE = 4, RLIMIT_NPROC = 6, CLOCK_MONOTONIC = 1;
const SECCOMP_SET_MODE_FILTER = 1, SECCOMP_FILTER_FLAG_TSYNC = 1;

const config = JSON.parse(Deno.args[0]);
const limits = config.limits;

const libc = Deno.dlopen("libc.so.6", {
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  close: { parameters: ["i32"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  syscall: { parameters: ["i64", "u64", "u64", "buffer"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
}).symbols;

// Kept from before the program: it may put others in their place, and only its own calls would
// suffer, but an honest program that extends a prototype should not.
const { parse, stringify } = JSON;
const { isArray } = Array;
const { keys, getPrototypeOf } = Object;
const { isFinite, isInteger } = Number;
const { abs, min } = Math;
const now = performance.now.bind(performance);
const inspect = Deno.inspect;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encode = encoder.encode.bind(encoder);
const encodeInto = encoder.encodeInto.bind(encoder);
const decode = decoder.decode.bind(decoder);
const later = setTimeout, cancel = clearTimeout;
const ObjectPrototype = Object.prototype;

const page = new DataView(
  Deno.UnsafePointerView.getArrayBuffer(
    libc.mmap(null, PAGE_BYTES, 1 | 2, 1, config.page_fd, 0n), // read and write, shared
    PAGE_BYTES,
  ),
);

class InvalidError extends Error {}
class TooLargeError extends Error {}
class Deadline extends Error {}

// --- the frames -------------------------------------------------------------------------------

let inbox = new Uint8Array(64 * 1024);
let outbox = new Uint8Array(64 * 1024);
let view = new DataView(outbox.buffer);
// Results are collected behind room for the header and for the widest head of an array.
const RESULTS_AT = HEADER_BYTES + 3;
let end = RESULTS_AT;

function reserve(bytes) {
  if (end + bytes <= outbox.length) return;
  const larger = new Uint8Array(Math.max(2 * outbox.length, end + bytes));
  larger.set(outbox.subarray(0, end));
  outbox = larger;
  view = new DataView(outbox.buffer);
}

function integer(value) {
  reserve(9);
  if (value < 0x80) {
    outbox[end++] = value;
  } else {
    outbox[end] = 0xce;
    view.setUint32(end + 1, min(value, 0xffff_ffff));
    end += 5;
  }
}

function counted(tag, text) {
  // A unit of UTF-16 takes three bytes of UTF-8 at most.
  reserve(5 + 3 * text.length);
  const { written } = encodeInto(text, outbox.subarray(end + 5));
  outbox[end] = tag;
  view.setUint32(end + 1, written);
  end += 5 + written;
}

const binary = (text) => counted(0xc6, text);
const string = (text) => counted(0xdb, text);

function receive(into, from, upTo) {
  while (from < upTo) {
    const size = libc.read(config.data_fd, into.subarray(from), BigInt(into.length - from));
    if (size <= 0) Deno.exit(0); // the host has closed us
    from += size;
  }
  return from;
}

function request() {
  let filled = receive(inbox, 0, HEADER_BYTES);
  const head = new DataView(inbox.buffer, 0, HEADER_BYTES);
  const size = head.getUint32(0, true);
  const nonce = head.getBigUint64(4, true);
  if (size > limits.request_bytes_max) throw new Error("request too large");
  const total = HEADER_BYTES + size;
  if (total > inbox.length) {
    const larger = new Uint8Array(total);
    larger.set(inbox.subarray(0, filled));
    inbox = larger;
  }
  receive(inbox, filled, total);
  return { nonce, message: unpack(inbox.subarray(HEADER_BYTES, total)) };
}

function unpack(data) {
  const bytes = new DataView(data.buffer, data.byteOffset, data.length);
  let at = 0;
  const slice = (size) => data.subarray(at, (at += size));
  const elements = (size) => {
    const found = [];
    for (let index = 0; index < size; index++) found.push(value());
    return found;
  };
  function value() {
    const tag = data[at++];
    if (tag < 0x80) return tag;
    if ((tag & 0xf0) === 0x90) return elements(tag & 0x0f);
    if ((tag & 0xe0) === 0xa0) return decode(slice(tag & 0x1f));
    switch (tag) {
      case 0xc4:
        return slice(data[at++]);
      case 0xc5:
        at += 2;
        return slice(bytes.getUint16(at - 2));
      case 0xc6:
        at += 4;
        return slice(bytes.getUint32(at - 4));
      case 0xcb:
        at += 8;
        return bytes.getFloat64(at - 8);
      case 0xcc:
        return data[at++];
      case 0xcd:
        at += 2;
        return bytes.getUint16(at - 2);
      case 0xdc:
        at += 2;
        return elements(bytes.getUint16(at - 2));
    }
    throw new Error(`type ${tag} is not of the subset`);
  }
  return value();
}

function send(nonce, count) {
  let start = RESULTS_AT;
  if (count < 0x10) {
    outbox[--start] = 0x90 | count;
  } else {
    start -= 3;
    outbox[start] = 0xdc;
    view.setUint16(start + 1, count);
  }
  const size = end - start;
  start -= HEADER_BYTES;
  view.setUint32(start, size, true);
  view.setBigUint64(start + 4, nonce, true);
  while (start < end) {
    const written = libc.write(config.data_fd, outbox.subarray(start, end), BigInt(end - start));
    if (written < 0) Deno.exit(0);
    start += written;
  }
  end = RESULTS_AT;
}

// --- results ----------------------------------------------------------------------------------

// Copies to plain objects and arrays and stops at the first thing that is not allowed. `left`
// bounds the work: a lower bound of the encoded size is taken off as we go.
function copy(value, path, depth, room) {
  room.left -= 1;
  switch (typeof value) {
    case "string":
      return text(value, path, room);
    case "boolean":
      return value;
    case "number":
      if (!isFinite(value)) throw new InvalidError(`${path || "/"}: number is not finite`);
      if (isInteger(value) && abs(value) > INTEGER_MAX && abs(value) < EXPONENT_FROM) {
        throw new InvalidError(`${path || "/"}: integer beyond 2**53`);
      }
      return value;
    case "object":
      break;
    default:
      throw new InvalidError(`${path || "/"}: a ${typeof value} is not JSON`);
  }
  if (value === null) return null;
  if (depth >= DEPTH_MAX) {
    throw new InvalidError(`${path.slice(0, 200)}: nested deeper than ${DEPTH_MAX}`);
  }
  if (room.left < 0) throw new TooLargeError();
  if (isArray(value)) {
    const found = [];
    const { length } = value;
    for (let index = 0; index < length; index++) {
      found[index] = copy(value[index], `${path}/${index}`, depth + 1, room);
    }
    return found;
  }
  const prototype = getPrototypeOf(value);
  // An object of another realm's or of none is plain as well; an instance of a class is not.
  if (prototype !== null && prototype !== ObjectPrototype) {
    throw new InvalidError(`${path || "/"}: a ${named(value)} is not JSON`);
  }
  const found = { __proto__: null };
  for (const key of keys(value)) {
    found[text(key, path, room)] = copy(value[key], `${path}/${key.slice(0, 100)}`, depth + 1, room);
  }
  return found;
}

function text(value, path, room) {
  room.left -= value.length;
  if (room.left < 0) throw new TooLargeError();
  if (!value.isWellFormed()) throw new InvalidError("text has a lone surrogate");
  return value;
}

function named(value) {
  try {
    return String(value.constructor.name).slice(0, 100);
  } catch {
    return "object";
  }
}

function encoded(value) {
  const data = stringify(copy(value, "", 0, { left: limits.output_bytes_max }));
  // Only what may be too long in UTF-8 is measured.
  if (3 * data.length > limits.output_bytes_max && encode(data).length > limits.output_bytes_max) {
    throw new TooLargeError();
  }
  return data;
}

// --- what a program writes --------------------------------------------------------------------

let captured = [];
let capturable = limits.stdout_bytes_max;

function capture(...values) {
  if (capturable <= 0) return;
  const shown = values.map((value) => (typeof value === "string" ? value : inspect(value)));
  const line = (shown.join(" ") + "\n").slice(0, capturable);
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

let program = { url: "", name: "program.js", lines: [] };

// Lines of the program in a stack or a message that says where: [function, line, column].
function places(stack) {
  const found = [];
  for (const line of stack.split("\n")) {
    const at = line.indexOf(program.url);
    if (at < 0) continue;
    const [row, column] = line.slice(at + program.url.length + 1).split(/[:)]/).map(Number);
    if (!(row > 0)) continue;
    const name = /^\s*at (?:async )?([^ (]+) \(/.exec(line)?.[1] ?? "";
    found.push([name.replace(/^Module\./, ""), row, column > 0 ? column : 1]);
  }
  return found;
}

function traced(found, last) {
  if (found.length === 0) return "";
  const shown = found.slice(0, FRAMES_MAX).map(([name, row, column]) => {
    const where = `${program.name}:${row}:${column}`;
    return `    at ${name ? `${name} (${where})` : where}`;
  });
  if (found.length > FRAMES_MAX) shown.push(`    (${found.length - FRAMES_MAX} more frames)`);
  return [last, ...shown].join("\n");
}

// Anything may be thrown, and to describe it may run code of the program, which may throw again.
function described(thrown) {
  if (!(thrown instanceof Error)) return { kind: typeof thrown, message: brief(thrown), found: [] };
  let kind = String(thrown.name).slice(0, 100);
  let message = String(thrown.message);
  // What Deno's compiler refuses it wraps.
  if (message.startsWith("SyntaxError: ")) [kind, message] = ["SyntaxError", message.slice(13)];
  message = message.replace(/^Blocked by null entry for ""(.*)""/, "module $1 is not available to programs");
  const found = places(String(thrown.stack));
  // A program that does not parse says where in its message.
  return { kind, message, found: found.length ? found : places(message) };
}

function brief(value) {
  try {
    return typeof value === "string" ? value : inspect(value);
  } catch {
    return "a value that cannot be described";
  }
}

const MEMORY = /allocation failed|out of memory|could not allocate|Invalid (array|string) length/i;

function failed(thrown, started) {
  let status = ERROR, kind = "error", message = "the exception could not be described";
  let found = [];
  try {
    if (thrown instanceof Deadline) {
      [status, kind, message] = [TIMEOUT, "timeout", "timed out"];
    } else if (thrown instanceof TooLargeError) {
      status = OUTPUT_TOO_LARGE;
      kind = "output_too_large";
      message = `the result exceeds ${limits.output_bytes_max} bytes`;
    } else if (thrown instanceof InvalidError) {
      [status, kind, message] = [INVALID_RESULT, "invalid_result", thrown.message];
    } else {
      ({ kind, message, found } = described(thrown));
      if (kind === "RangeError" && MEMORY.test(message)) {
        [status, kind] = [OUT_OF_MEMORY, "out_of_memory"];
      }
    }
  } catch {
    // What was assumed above stands.
  }
  const line = found.length ? found[0][1] : 0;
  const length = limits.message_bytes_max / 4;
  const first = message.split("\n", 1)[0];
  reserve(2);
  outbox[end++] = 0x98;
  outbox[end++] = status;
  integer(elapsed(started));
  binary("");
  string(kind);
  string((line ? `line ${line}: ${first}` : first).slice(0, length).toWellFormed());
  string(taken().toWellFormed());
  integer(line);
  string(traced(found, `${kind}: ${first}`).slice(0, length).toWellFormed());
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
  reserve(2);
  const plain = captured.length === 0;
  outbox[end++] = plain ? 0x93 : 0x96;
  outbox[end++] = SUCCESS;
  integer(elapsed(started));
  binary(data);
  if (plain) return;
  string("");
  string("");
  string(taken().toWellFormed());
}

async function batch(nonce, inputs, seconds) {
  let count = 0;
  let flushed = now();
  for (let index = 0; index < inputs.length; index++) {
    const started = now();
    if (count > 0 && (end > limits.flush_bytes || started - flushed > limits.flush_ms)) {
      send(nonce, count);
      count = 0;
      flushed = started;
    }
    mark(nonce, index, started);
    const before = end;
    try {
      let value = run(parse(decode(inputs[index])));
      if (typeof value?.then === "function") value = await settled(value, seconds[index] * 1000);
      succeeded(encoded(value), started);
    } catch (thrown) {
      end = before;
      failed(thrown, started);
    }
    count++;
  }
  send(nonce, count);
}

function mark(nonce, index, started) {
  page.setBigUint64(0, nonce, true);
  page.setBigInt64(8, BigInt(index), true);
  page.setFloat64(16, clock + started / 1000, true);
}

async function load(nonce, code, seconds, language) {
  const started = now();
  mark(nonce, 0, started);
  try {
    run = await settled(entry(decode(code), language), seconds * 1000);
    succeeded("", started);
  } catch (thrown) {
    failed(thrown, started);
  }
}

async function entry(code, language) {
  program.name = language === "typescript" ? "program.ts" : "program.js";
  let module = await imported(code, language);
  let found = module.run ?? module.classify ?? module.default;
  for (const name of ["run", "classify"]) {
    if (found !== undefined) break;
    // Written as a script: its function is there and not exported.
    if (new RegExp(`\\b${name}\\b`).test(code)) {
      try {
        module = await imported(`${code}\nexport { ${name} };`, language);
        found = module[name];
      } catch (thrown) {
        if (!(thrown instanceof SyntaxError)) throw thrown;
      }
    }
  }
  if (typeof found !== "function") {
    throw new SyntaxError("the program defines no function run(input)");
  }
  return found === module.classify ? classifier(found) : found;
}

async function imported(code, language) {
  const url = URL.createObjectURL(new Blob([code], { type: `application/${language}` }));
  program.url = url;
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

// --- start ------------------------------------------------------------------------------------

let clock = 0;

function harden() {
  const time = new DataView(new ArrayBuffer(16));
  libc.clock_gettime(CLOCK_MONOTONIC, new Uint8Array(time.buffer));
  clock = Number(time.getBigInt64(0, true)) + Number(time.getBigInt64(8, true)) / 1e9 - now() / 1000;
  libc.close(config.page_fd);
  const lines = new Uint8Array(config.filter);
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

function furnish() {
  // What a call leaves behind unhandled must not end the process under the next one.
  for (const [kind, what] of [["unhandledrejection", "reason"], ["error", "error"]]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      capture("Uncaught", brief(event[what]));
    });
  }
  const silent = ["group", "groupEnd", "time", "timeEnd", "timeLog", "count", "countReset", "clear"];
  globalThis.console = {
    ...Object.fromEntries(silent.map((name) => [name, silence])),
    ...Object.fromEntries(
      ["log", "info", "warn", "error", "debug", "dir", "table", "trace"].map((name) => [name, capture]),
    ),
    assert: (holds, ...values) => holds || capture("Assertion failed:", ...values),
  };
  // A worker would need a thread, WebAssembly machine code of its own: the process would end.
  delete globalThis.Worker;
  delete globalThis.WebAssembly;
  Object.defineProperty(Deno, "args", { value: [] });
}

// The compiler takes a thread when it is first used, the event loop a signal handler when it first
// waits; afterwards neither could.
await new Promise((resolve) => later(resolve, 1));
await imported("export const warm: number = 1;", "typescript");
harden();
furnish();
send(0n, 0);
for (;;) {
  const { nonce, message } = request();
  if (message[0] === LOAD) {
    await load(nonce, message[1], message[2], message[3]);
    send(nonce, 1);
  } else {
    await batch(nonce, message[1], message[2]);
  }
}
