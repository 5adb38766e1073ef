/** Sends requests, again where that may help, and reads answers. */

import { ConnectionFailed, DeadlineExceeded, errorOf, LoopaiError } from "./errors.js";
import { Attempts, pause, retryAfterS } from "./retries.js";

const BASE = "/api/v1";
/** How much longer than the server may take a caller waits for its answer. */
const SPARE_S = 5;

/** `/api/v1/…`: each part is one segment, whatever is in it. */
export function path(...parts) {
  return [BASE, ...parts.map((part) => encodeURIComponent(part))].join("/");
}

export class Transport {
  constructor(settings) {
    this.settings = settings;
  }

  /** Attempts within the deadline, or within `leastS` and some where that is longer. */
  attempts(leastS = 0) {
    const { maxRetries, deadlineS } = this.settings;
    return new Attempts(maxRetries, Math.max(deadlineS, leastS && leastS + SPARE_S));
  }

  /** The answer to a request, decoded. */
  async send(request) {
    const text = await this.read(request);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new LoopaiError(`not what Loopai answers at ${request.path}: ${cause.message}`, {
        cause,
      });
    }
  }

  /** The body of the answer, after as many attempts as it takes. */
  async read(request) {
    const keyed = this.#keyed(request);
    const attempts = this.attempts(request.leastS);
    for (;;) {
      try {
        return await this.#attempt(keyed, attempts.remainingS);
      } catch (error) {
        await pause(attempts.pauseS(error), request.signal);
      }
    }
  }

  /** One attempt, its answer still to be asked for. Whoever takes it ends it. */
  exchange(request, withinS) {
    const init = { method: request.method, headers: this.#headers(request) };
    if (request.body !== undefined) init.body = JSON.stringify(request.body);
    return new Exchange(request, this.#url(request), init, withinS);
  }

  async #attempt(request, withinS) {
    const exchange = this.exchange(request, withinS);
    try {
      const response = await exchange.answer();
      return await response.text();
    } catch (error) {
      throw exchange.failure(error);
    } finally {
      exchange.end();
    }
  }

  #url(request) {
    const query = Object.entries(request.query ?? {}).filter(([, value]) => value !== undefined);
    const text = new URLSearchParams(query).toString();
    return this.settings.url + request.path + (text && `?${text}`);
  }

  #headers(request) {
    const headers = { ...request.headers };
    if (this.settings.apiKey) headers.Authorization = `Bearer ${this.settings.apiKey}`;
    if (request.body !== undefined) headers["Content-Type"] = "application/json";
    if (request.ifMatch !== undefined) headers["If-Match"] = `"${request.ifMatch}"`;
    if (request.idempotencyKey !== undefined) headers["Idempotency-Key"] = request.idempotencyKey;
    return headers;
  }

  /** A POST gets an idempotency key, so that sending it twice does it once. */
  #keyed(request) {
    if (request.method !== "POST" || !this.settings.maxRetries) return request;
    return { ...request, idempotencyKey: request.idempotencyKey ?? newKey() };
  }
}

/** A request and its answer, which end when their time is over or the caller's signal aborts. */
class Exchange {
  #controller = new AbortController();
  #timer;
  #late = false;

  constructor(request, url, init, withinS) {
    this.request = request;
    this.url = url;
    this.init = init;
    this.withinS = withinS;
    this.stop = () => this.#controller.abort(request.signal.reason);
    if (request.signal?.aborted) this.stop();
    request.signal?.addEventListener("abort", this.stop, { once: true });
  }

  /** The response. ApiError where it is a refusal. */
  async answer() {
    this.begin();
    const response = await fetch(this.url, { ...this.init, signal: this.#controller.signal });
    if (response.ok) return response;
    const again = retryAfterS(response.headers.get("retry-after"));
    throw errorOf(response.status, await response.text(), again);
  }

  /** Let the time begin anew. */
  begin() {
    this.rest();
    this.#timer = setTimeout(() => {
      this.#late = true;
      this.#controller.abort();
    }, this.withinS * 1000);
  }

  /** Let no time pass until `begin`. */
  rest() {
    clearTimeout(this.#timer);
  }

  /** What `error`, which came out of this, means to the caller. */
  failure(error) {
    const { method, path, signal } = this.request;
    if (error instanceof LoopaiError) return error;
    if (signal?.aborted) return signal.reason;
    if (this.#late) return new DeadlineExceeded(`${method} ${path}: no answer before the deadline`);
    const why = error.cause?.message || error.message;
    return new ConnectionFailed(`${method} ${path}: ${why}`, { cause: error });
  }

  end() {
    this.rest();
    this.request.signal?.removeEventListener("abort", this.stop);
    // An answer that was not read to its end would hold its connection.
    this.#controller.abort();
  }
}

/** An idempotency key that nobody else has. Pages without TLS have no `crypto.randomUUID`. */
function newKey() {
  const bytes = new Uint8Array(16);
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, index) => (bytes[index] = Math.random() * 256));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
