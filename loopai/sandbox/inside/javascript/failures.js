// What is said of a value that was thrown: its type, its message, and where in the program it was.

const FRAMES_MAX = 20;
const MEMORY = /allocation failed|out of memory|could not allocate|Invalid string length/i;
const TYPED_ARRAY_TOO_LONG = /^Invalid typed array length: \d/;
// How Deno says that it will not load something, in words that make no sense to a program's author.
const NOT_LOADED =
  /^(?:Blocked by|Import "|Requires (?:read|import) access|npm specifiers|JSR package|Module not found)/;
const RUNNER = /^\s*at .*(?:file:\/\/\/cell\/|ext:)/;

const inspect = Deno.inspect;

let program = { url: "", name: "program.js" };

// From now on *url* is how stacks name the program, and *name* how its author does.
export function called(url, name) {
  program = { url, name };
}

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

export function traced(found, last) {
  if (found.length === 0) return "";
  const shown = found.slice(0, FRAMES_MAX).map(([name, row, column]) => {
    const where = `${program.name}:${row}:${column}`;
    return `    at ${name ? `${name} (${where})` : where}`;
  });
  if (found.length > FRAMES_MAX) shown.push(`    (${found.length - FRAMES_MAX} more frames)`);
  return [last, ...shown].join("\n");
}

// Anything may be thrown, and to describe it may run code of the program, which may throw again.
export function described(thrown) {
  if (!(thrown instanceof Error)) return { kind: typeof thrown, message: brief(thrown), found: [] };
  let kind = String(thrown.name).slice(0, 100);
  let message = String(thrown.message);
  // What Deno's compiler refuses it wraps.
  if (message.startsWith("SyntaxError: ")) [kind, message] = ["SyntaxError", message.slice(13)];
  const found = places(String(thrown.stack));
  // A program that does not parse says where in its message, behind the line itself.
  const compiled = kind === "SyntaxError" || NOT_LOADED.test(message);
  const where = found.length ? found : places(message);
  if (compiled) message = message.split("\n", 1)[0].split(` at ${program.url}`, 1)[0];
  if (NOT_LOADED.test(message)) {
    const wanted = /"+([^"]+)"/.exec(message)?.[1] ?? "that it imports";
    message = `module ${wanted} is not available to programs`;
  }
  return { kind, message, found: where };
}

// *value* as the console shows it, with no lines but the program's own in the stacks of errors.
export function brief(value) {
  if (typeof value === "string") return value;
  let text;
  try {
    text = inspect(value);
  } catch {
    return "a value that cannot be described";
  }
  if (program.url === "" || !text.includes("at ")) return text;
  const lines = text.split("\n").filter((line) => !RUNNER.test(line));
  return lines.join("\n").replaceAll(program.url, program.name);
}

export function isLackOfMemory(kind, message) {
  return kind === "RangeError" && (MEMORY.test(message) || TYPED_ARRAY_TOO_LONG.test(message));
}
