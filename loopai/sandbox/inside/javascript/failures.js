// What is said of a value that was thrown: its type, its message, and where in the program it was.

const FRAMES_MAX = 20;
const MEMORY = /allocation failed|out of memory|could not allocate|Invalid (array|string) length/i;

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
  message = message.replace(
    /^Blocked by null entry for ""(.*)""/,
    "module $1 is not available to programs",
  );
  const found = places(String(thrown.stack));
  // A program that does not parse says where in its message.
  return { kind, message, found: found.length ? found : places(message) };
}

export function brief(value) {
  try {
    return typeof value === "string" ? value : inspect(value);
  } catch {
    return "a value that cannot be described";
  }
}

export function isLackOfMemory(kind, message) {
  return kind === "RangeError" && MEMORY.test(message);
}
