/** Executions and operations after they were accepted: look, wait, listen, cancel. */

import { DeadlineExceeded } from "./errors.js";
import { listen } from "./events.js";
import { now } from "./retries.js";
import { path } from "./transport.js";

/** One request waits so long: shorter than the patience of most proxies. */
const ROUND_S = 20;
/** How often an operation is looked at for somebody who wants to hear of its progress. */
const PROGRESS_S = 0.5;
const TIMEOUT_S = 300;

export class Executions {
  #transport;

  constructor(transport) {
    this.#transport = transport;
  }

  get(id, { waitS, signal } = {}) {
    return this.#ask("GET", id, waitS, signal);
  }

  async wait(id, { timeoutS = TIMEOUT_S, signal } = {}) {
    const ended = (found) => found.status !== "queued" && found.status !== "cancelling";
    const look = (waitS) => this.get(id, { waitS, signal });
    return await until(`execution ${id}`, timeoutS, ROUND_S, look, ended);
  }

  cancel(id, { waitS, signal } = {}) {
    return this.#ask("DELETE", id, waitS, signal);
  }

  events(id, { signal } = {}) {
    return listen(this.#transport, path("executions", id, "events"), signal);
  }

  #ask(method, id, waitS, signal) {
    const query = { wait: waitS };
    return this.#transport.send({
      method,
      path: path("executions", id),
      query,
      leastS: waitS,
      signal,
    });
  }
}

export class Operations {
  #transport;

  constructor(transport) {
    this.#transport = transport;
  }

  get(id, { waitS, signal } = {}) {
    const query = { wait: waitS };
    return this.#transport.send({
      method: "GET",
      path: path("operations", id),
      query,
      leastS: waitS,
      signal,
    });
  }

  async wait(id, { timeoutS = TIMEOUT_S, onProgress, signal } = {}) {
    let told;
    const look = async (waitS) => {
      const found = await this.get(id, { waitS, signal });
      const state = `${found.status} ${found.stage}`;
      if (told !== state) onProgress?.(found);
      told = state;
      return found;
    };
    const ended = (found) => found.status === "succeeded" || found.status === "failed";
    const roundS = onProgress ? PROGRESS_S : ROUND_S;
    return await until(`operation ${id}`, timeoutS, roundS, look, ended);
  }

  events(id, { signal } = {}) {
    return listen(this.#transport, path("operations", id, "events"), signal);
  }
}

async function until(what, timeoutS, roundS, look, ended) {
  const ends = now() + timeoutS;
  for (let left = timeoutS; left > 0; left = ends - now()) {
    const found = await look(Number(Math.min(roundS, left).toFixed(3)));
    if (ended(found)) return found;
  }
  throw new DeadlineExceeded(`${what} has not ended within ${timeoutS} s`);
}
