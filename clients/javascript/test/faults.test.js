// When things fail: a real server that does what a test plans.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";

import {
  BadRequestError,
  Client,
  ConnectionFailed,
  DeadlineExceeded,
  LoopaiError,
  ServerError,
  UnavailableError,
  verifyWebhook,
} from "../src/index.js";

const DONE = (response) => response.end('{"id": "1", "status": "success", "tasks": []}');

function refusal(status, code, headers = {}) {
  return (response) => {
    response.writeHead(status, headers);
    response.end(JSON.stringify({ code }));
  };
}

const BUSY = refusal(503, "BACKLOG_FULL", { "retry-after": "0" });

/** A server whose requests take the next step of `plan`, and `use` with a client of it. */
async function planned(plan, use, options = {}) {
  const seen = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      seen.push(request.headers);
      (plan[seen.length - 1] ?? DONE)(response, server, body);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  try {
    await use(new Client({ url: `http://127.0.0.1:${port}`, ...options }), seen, server);
  } finally {
    server.closeAllConnections?.();
    await new Promise((resolve) => server.close(resolve));
  }
}

const CUT = (response) => {
  response.writeHead(200, { "content-length": "500" });
  response.write('{"id"', () => response.destroy());
};

const PASSING = {
  503: BUSY,
  502: (response) => response.writeHead(502).end("<html>"),
  504: refusal(504, "UNKNOWN"),
  "in use": refusal(409, "IDEMPOTENCY_KEY_IN_USE", { "retry-after": "0" }),
  nothing: (response) => response.destroy(),
  cut: CUT,
};

for (const [name, fault] of Object.entries(PASSING)) {
  test(`what passes is sent again under one key: ${name}`, async () => {
    await planned([fault, fault], async (loopai, seen) => {
      assert.equal((await loopai.execute("upper", "a")).status, "success");
      const keys = seen.map((headers) => headers["idempotency-key"]);
      assert.equal(keys.length, 3);
      assert.match(keys[0], /^[0-9a-f]{32}$/);
      assert.equal(new Set(keys).size, 1);
    });
  });
}

test("a server that restarts is found again", async () => {
  const restart = (response, server) => {
    const { port } = server.address();
    response.destroy();
    server.close(() => setTimeout(() => server.listen(port, "127.0.0.1"), 300));
    server.closeAllConnections?.();
  };
  await planned([restart], async (loopai, seen) => {
    await loopai.execute("upper", "a", { idempotencyKey: "mine" });
    assert.deepEqual(seen.map((headers) => headers["idempotency-key"]), ["mine", "mine"]);
  });
});

test("retry-after is waited for", async () => {
  const limited = refusal(429, "RATE_LIMITED", { "retry-after": "1" });
  await planned([limited], async (loopai) => {
    const began = performance.now();
    await loopai.tasks.list();
    assert.ok(performance.now() - began >= 1000);
  });
});

test("after as many retries the error is told", async () => {
  await planned([BUSY, BUSY, BUSY, BUSY], async (loopai, seen) => {
    await assert.rejects(
      loopai.tasks.list(),
      (error) => error instanceof UnavailableError && error.retry_after_s === 0,
    );
    assert.equal(seen.length, 3);
  }, { maxRetries: 2 });
});

test("without retries nothing is sent twice, and there is no key", async () => {
  await planned([BUSY], async (loopai, seen) => {
    await assert.rejects(loopai.execute("upper", "a"), UnavailableError);
    assert.deepEqual(seen.map((headers) => headers["idempotency-key"]), [undefined]);
  }, { maxRetries: 0 });
});

test("what does not pass is told at once", async () => {
  const told = [
    [refusal(400, "INVALID_QUERY"), BadRequestError],
    [refusal(500, "INTERNAL"), ServerError],
    [refusal(504, "DEADLINE_PASSED"), ServerError],
  ];
  for (const [fault, Class] of told) {
    await planned([fault], async (loopai, seen) => {
      await assert.rejects(loopai.tasks.list(), Class);
      assert.equal(seen.length, 1);
    });
  }
});

test("the deadline ends it, and so does a signal", async () => {
  const silent = () => {};
  await planned([silent], async (loopai) => {
    await assert.rejects(loopai.tasks.list(), DeadlineExceeded);
  }, { deadlineS: 0.3 });
  await planned([silent], async (loopai) => {
    const mine = new Error("mine");
    const controller = new AbortController();
    const waiting = loopai.tasks.list({ signal: controller.signal });
    setTimeout(() => controller.abort(mine), 50);
    await assert.rejects(waiting, (error) => error === mine);
    await assert.rejects(loopai.tasks.list({ signal: AbortSignal.abort(mine) }), /mine/);
  });
});

test("a server that is not there is a failed connection", async () => {
  let url;
  await planned([], (_loopai, _seen, server) => {
    url = `http://127.0.0.1:${server.address().port}`;
  });
  const loopai = new Client({ url, maxRetries: 1 });
  await assert.rejects(loopai.tasks.list(), ConnectionFailed);
});

test("an answer of something else is an error", async () => {
  await planned([(response) => response.end("<html>")], async (loopai) => {
    await assert.rejects(loopai.tasks.list(), LoopaiError);
  });
});

test("events are taken up where they broke", async () => {
  const told = (text) => (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(text, () => setTimeout(() => response.destroy(), 20));
  };
  const plan = [
    told(': hello\n\nid: 7\nevent: queued\ndata: {"status":\r\ndata: "queued"}\n\ndata: {'),
    BUSY,
    told('id: 8\nevent: ended\ndata: {"status": "success"}\n\n'),
  ];
  await planned(plan, async (loopai, seen) => {
    const found = [];
    for await (const event of loopai.executions.events("x")) found.push(event);
    assert.deepEqual(found, [
      { kind: "queued", data: { status: "queued" }, id: "7" },
      { kind: "ended", data: { status: "success" }, id: "8" },
    ]);
    assert.equal(seen[2]["last-event-id"], "7");
  });
  await planned([(response) => response.writeHead(204).end()], async (loopai) => {
    for await (const event of loopai.operations.events("x")) assert.fail(event.kind);
  });
});

test("a stream goes on where its connection broke", async () => {
  const echo = (response, _server, body) => {
    const results = JSON.parse(body).items.map(({ id, input }) => ({ id, output: input }));
    response.end(JSON.stringify({ results }));
  };
  const items = ["a", "b", "c", "d"].map((input) => ({ input }));
  await planned([CUT, echo, CUT, BUSY, echo], async (loopai, seen) => {
    const found = [];
    for await (const result of loopai.batch.stream("upper", items, { window: 2 })) {
      found.push(`${result.id}${result.output}`);
    }
    assert.deepEqual(found, ["0a", "1b", "2c", "3d"]);
    const keys = seen.map((headers) => headers["idempotency-key"]);
    assert.equal(keys[0], keys[1]);
    assert.equal(new Set(keys.slice(2)).size, 1);
    assert.notEqual(keys[1], keys[2]);
  });
});

test("what is wrong is not sent", async () => {
  assert.throws(() => new Client({ url: "ftp://x" }), /url/);
  assert.throws(() => new Client({ maxRetries: -1 }), /maxRetries/);
  assert.throws(() => new Client({ deadlineS: 0 }), /deadlineS/);
  const loopai = new Client({ url: "http://127.0.0.1:9" });
  const streamed = (items, options) => loopai.batch.stream("a", items, options).next();
  await assert.rejects(streamed([{ inputs: 1 }]), /item 0/);
  await assert.rejects(streamed([], { window: 0 }), /window 0/);
});

test("signatures are checked", async () => {
  const key = Buffer.alloc(32, "k");
  const secret = `whsec_${key.toString("base64")}`;
  const body = '{"type":"webhook.ping"}';
  const signed = (at) => ({
    "Webhook-Id": "id-1",
    "Webhook-Timestamp": String(Math.floor(at)),
    "Webhook-Signature": `v1,AAAA v1,${
      createHmac("sha256", key).update(`id-1.${Math.floor(at)}.${body}`).digest("base64")
    }`,
  });
  const now = Date.now() / 1000;
  assert.ok(await verifyWebhook(signed(now), body, secret));
  assert.ok(await verifyWebhook(new Headers(signed(now)), new TextEncoder().encode(body), secret));
  assert.ok(!(await verifyWebhook(signed(now), body + " ", secret)));
  assert.ok(!(await verifyWebhook(signed(now - 400), body, secret)));
  assert.ok(!(await verifyWebhook({}, body, secret)));
  assert.ok(!(await verifyWebhook({ ...signed(now), "Webhook-Signature": "v1,é" }, body, secret)));
  await assert.rejects(verifyWebhook(signed(now), body, "whsec_?"), /whsec_/);
});
