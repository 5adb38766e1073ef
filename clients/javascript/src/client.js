/** The client: one object for all that the API does. */

import { Batch } from "./batches.js";
import { Executions, Operations } from "./executions.js";
import { Artifacts, Keys, Rollouts, Tasks, Webhooks } from "./resources.js";
import { path, Transport } from "./transport.js";

/** Where `loopai dev` listens. */
const URL = "http://127.0.0.1:8080";
/** What the server takes for `timeout_ms` where none is given. */
const TIMEOUT_MS = 30_000;

export class Client {
  #transport;

  constructor({ url, apiKey, maxRetries = 5, deadlineS = 60 } = {}) {
    const found = (url ?? environment("LOOPAI_URL") ?? globalThis.document?.location.origin ?? URL)
      .replace(/\/+$/, "");
    if (!/^https?:\/\//.test(found)) {
      throw new TypeError(`url ${JSON.stringify(found)}: begin with http:// or https://`);
    }
    if (!(maxRetries >= 0)) throw new RangeError(`maxRetries ${maxRetries}: 0 or more`);
    if (!(deadlineS > 0)) throw new RangeError(`deadlineS ${deadlineS}: more than 0`);
    this.#transport = new Transport({
      url: found,
      apiKey: apiKey ?? environment("LOOPAI_API_KEY"),
      maxRetries,
      deadlineS,
    });
    this.tasks = new Tasks(this.#transport);
    this.artifacts = new Artifacts(this.#transport);
    this.rollout = new Rollouts(this.#transport);
    this.executions = new Executions(this.#transport);
    this.operations = new Operations(this.#transport);
    this.batch = new Batch(this.#transport);
    this.keys = new Keys(this.#transport);
    this.webhooks = new Webhooks(this.#transport);
  }

  execute(task, input, { waitS, idempotencyKey, signal, ...fields } = {}) {
    return this.#transport.send({
      method: "POST",
      path: path("tasks", task, "execute"),
      query: { wait: waitS },
      body: { ...fields, input },
      leastS: waitS ?? (fields.timeout_ms ?? TIMEOUT_MS) / 1000,
      idempotencyKey,
      signal,
    });
  }

  async generate(task, { timeoutS = 300, onProgress, signal, ...body } = {}) {
    const target = path("tasks", task, "generate");
    const started = await this.#transport.send({ method: "POST", path: target, body, signal });
    if (timeoutS <= 0) return started;
    return await this.operations.wait(started.id, { timeoutS, onProgress, signal });
  }

  async queues({ task, signal } = {}) {
    const asked = { method: "GET", path: path("queues"), query: { task }, signal };
    return (await this.#transport.send(asked)).queues;
  }

  async sync({ signal } = {}) {
    return (await this.#transport.send({ method: "GET", path: path("sync"), signal })).sites;
  }

  health({ signal } = {}) {
    return this.#transport.send({ method: "GET", path: "/health", signal });
  }
}

/** A variable of the environment, where there is one that may be read. */
function environment(name) {
  try {
    return globalThis.process?.env?.[name] || undefined;
  } catch {
    return undefined;
  }
}
