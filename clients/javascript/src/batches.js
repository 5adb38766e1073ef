/** Many inputs at once: as one list, or as a stream without an end. */

import { path } from "./transport.js";

const WINDOW = 500;
/** What the server takes in one batch. */
const WINDOW_MOST = 10_000;
/** Of the items of a window, as JSON: with more of them it is sent before it is full. */
const CHARACTERS_MAX = 1 << 20;
/** A window is sent when no item has come for so long: a slow source is not waited for. */
const LINGER_MS = 50;
/** A batch may take longer than a request. */
const LEAST_S = 300;

export class Batch {
  #transport;

  constructor(transport) {
    this.#transport = transport;
  }

  run(task, items, { idempotencyKey, signal, ...fields } = {}) {
    return this.#transport.send({
      method: "POST",
      path: path("batch", "execute"),
      body: { task_id: task, items, ...fields },
      idempotencyKey,
      leastS: LEAST_S,
      signal,
    });
  }

  async *stream(task, items, { window = WINDOW, ...options } = {}) {
    if (!(Number.isInteger(window) && window >= 1 && window <= WINDOW_MOST)) {
      throw new RangeError(`window ${window}: 1 to ${WINDOW_MOST}`);
    }
    for await (const part of windows(items, window)) {
      yield* (await this.run(task, part, options)).results;
    }
  }
}

async function* windows(items, size) {
  const source = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
  let part = [];
  let characters = 0;
  let number = 0;
  const take = () => {
    const taken = part;
    part = [];
    characters = 0;
    return taken;
  };
  let coming = source.next();
  try {
    for (;;) {
      const next = part.length ? await soon(coming) : await coming;
      if (!next) {
        yield take();
        continue;
      }
      if (next.done) break;
      const item = numbered(next.value, number++);
      part.push(item);
      characters += JSON.stringify(item).length;
      if (part.length >= size || characters >= CHARACTERS_MAX) yield take();
      coming = source.next();
    }
    if (part.length) yield take();
  } finally {
    // A source that is waited for cannot be told to end before it has given what it is asked for.
    Promise.resolve(coming).catch(() => {});
    Promise.resolve(source.return?.()).catch(() => {});
  }
}

function numbered(item, number) {
  if (typeof item !== "object" || item === null || item.input === undefined) {
    throw new TypeError(`item ${number} has no "input": give {input: …}`);
  }
  return { id: String(number), ...item };
}

/** What `coming` gives, or undefined when it lingers. */
async function soon(coming) {
  if (!(coming instanceof Promise)) return coming;
  let timer;
  const lingered = new Promise((resolve) => (timer = setTimeout(resolve, LINGER_MS)));
  try {
    return await Promise.race([coming, lingered]);
  } finally {
    clearTimeout(timer);
  }
}
