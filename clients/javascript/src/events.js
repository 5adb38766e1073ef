/** Server-Sent Events (HTML, section 9.2), through `fetch`: `EventSource` sends no key. */

import { ConnectionFailed, DeadlineExceeded } from "./errors.js";
import { pause } from "./retries.js";

/** The server sends something every 15 seconds: after three times that it is gone. */
const SILENCE_S = 45;

/** Events until `ended`; a connection that breaks is taken up where it broke. */
export async function* listen(transport, path, signal) {
  const parser = new Parser();
  let attempts = transport.attempts();
  for (;;) {
    const headers = { Accept: "text/event-stream" };
    if (parser.lastId) headers["Last-Event-ID"] = parser.lastId;
    const exchange = transport.exchange({ method: "GET", path, headers, signal }, SILENCE_S);
    let failed;
    try {
      const response = await exchange.answer();
      if (response.status === 204) return;
      for await (const line of lines(response, exchange)) {
        const event = parser.feed(line);
        if (!event) continue;
        attempts = transport.attempts();
        yield event;
        if (event.kind === "ended") return;
      }
      failed = new ConnectionFailed(`${path}: the events broke off`);
    } catch (error) {
      failed = exchange.failure(error);
    } finally {
      exchange.end();
    }
    parser.broken();
    if (failed instanceof DeadlineExceeded) failed = new ConnectionFailed(failed.message);
    await pause(attempts.pauseS(failed), signal);
  }
}

async function* lines(response, exchange) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  for (;;) {
    exchange.begin();
    const { done, value } = await reader.read();
    // Who listens may take as long as it likes: that is no silence of the server.
    exchange.rest();
    if (done) return;
    const found = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = found.pop();
    for (const line of found) yield line.endsWith("\r") ? line.slice(0, -1) : line;
  }
}

/** Give it lines in turn; it gives an event at the empty line behind it. */
class Parser {
  lastId = "";
  #kind = "";
  #data = [];

  feed(line) {
    if (line === "") return this.#finished();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#kind = value;
    else if (name === "id") this.lastId = value;
  }

  /** The connection ended: what has no empty line behind it never came. */
  broken() {
    this.#kind = "";
    this.#data = [];
  }

  #finished() {
    const kind = this.#kind || "message";
    const data = this.#data.join("\n");
    this.broken();
    if (data) return { kind, data: JSON.parse(data), id: this.lastId };
  }
}
