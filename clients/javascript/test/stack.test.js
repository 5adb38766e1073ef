// Against a running stack, which LOOPAI_URL names.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Client,
  ConflictError,
  DeadlineExceeded,
  ExecutionFailed,
  InvalidRequestError,
  NotFoundError,
  raiseForError,
} from "../src/index.js";

const TEXT = { type: "string" };
const UPPER = "def run(input):\n    return input.upper()\n";
const loopai = new Client();

function unique(name) {
  return `${name}-${Math.random().toString(16).slice(2)}`;
}

async function task(code = UPPER) {
  const made = await loopai.tasks.create(unique("js"), { input_schema: TEXT });
  await loopai.artifacts.upload(made.name, code, { activate: true });
  return made.name;
}

test("a task is made, read, changed and deleted", async () => {
  const name = unique("mail.spam");
  const made = await loopai.tasks.create(name, { description: "a", input_schema: TEXT });
  assert.deepEqual(made.input_schema, TEXT);
  const changed = await loopai.tasks.change(name, { description: "b", ifMatch: made.revision });
  assert.equal((await loopai.tasks.get(made.id)).description, "b");
  const stale = loopai.tasks.change(name, { description: "c", ifMatch: made.revision });
  await assert.rejects(
    stale,
    (error) => error instanceof ConflictError && error.code === "PRECONDITION_FAILED",
  );
  assert.ok((await loopai.tasks.list()).some((each) => each.id === made.id));
  await loopai.tasks.delete(name, { ifMatch: changed.revision });
  await assert.rejects(loopai.tasks.get(made.id), NotFoundError);
});

test("versions are uploaded, rolled out and executed", async () => {
  const name = await task();
  const second = await loopai.artifacts.upload(name, "def run(input):\n    return input * 2\n");
  assert.deepEqual((await loopai.artifacts.list(name)).map((each) => each.version), [2, 1]);
  assert.equal((await loopai.artifacts.get(name, 1)).code, UPPER);
  assert.equal(await loopai.artifacts.program(name, 1), UPPER);
  const done = await loopai.execute(name, "a", { routing_key: "me", force_validation: true });
  assert.equal(raiseForError(done).output, "A");
  assert.equal((await loopai.execute(name, "a", { version: second.version })).output, "aa");
  const canary = { version: 2, percent: 12.5 };
  assert.equal((await loopai.rollout.change(name, { canary })).canary.percent, 12.5);
  assert.equal((await loopai.rollout.promote(name)).active, 2);
  assert.equal((await loopai.rollout.rollback(name)).active, 1);
  assert.equal((await loopai.artifacts.activate(name, 2)).active, 2);
  assert.equal((await loopai.rollout.get(name)).history.at(-1).action, "activate");
});

test("a program is generated with progress", async () => {
  const words = ["red", "green", "blue", "grey"];
  const examples = Array.from({ length: 40 }, (_, number) => ({
    input: { text: `${words[number % 4]} thing ${number}` },
    output: words[number % 4],
  }));
  const name = unique("js-generated");
  await loopai.tasks.create(name, { examples });
  const heard = [];
  const done = await loopai.generate(name, { seed: 0, onProgress: (each) => heard.push(each) });
  assert.equal(done.status, "succeeded", done.error?.message);
  assert.equal(heard.at(-1).status, "succeeded");
  assert.equal((await loopai.operations.get(done.id)).version, 1);
  const queued = await loopai.generate(name, { timeoutS: 0 });
  assert.equal((await loopai.operations.wait(queued.id)).version, 2);
});

test("an execution is queued, waited for and cancelled", async () => {
  const queued = await loopai.execute(await task(), "a", { waitS: 0 });
  assert.equal(queued.status, "queued");
  assert.equal((await loopai.executions.wait(queued.id)).output, "A");
  assert.equal((await loopai.executions.get(queued.id)).input, "a");
  const slow = await task(
    "import time\ndef run(input):\n    while input == 'hang':\n        pass\n    return input\n"
      .replace("import time\n", ""),
  );
  const hanging = await loopai.execute(slow, "hang", { waitS: 0, timeout_ms: 60_000 });
  await assert.rejects(loopai.executions.wait(hanging.id, { timeoutS: 0.01 }), DeadlineExceeded);
  await loopai.executions.cancel(hanging.id);
  const ended = await loopai.executions.wait(hanging.id);
  assert.equal(ended.status, "cancelled");
  assert.throws(() => raiseForError(ended), ExecutionFailed);
});

test("errors say where", async () => {
  await assert.rejects(loopai.execute(await task(), 7), (error) => {
    assert.ok(error instanceof InvalidRequestError);
    assert.equal(error.errors[0].path, "/input");
    assert.equal(error.trace_id.length, 32);
    return true;
  });
});

test("a batch has results in order", async () => {
  const done = await loopai.batch.run(await task(), [{ id: "x", input: "a" }, { input: 7 }], {
    max_concurrency: 8,
  });
  assert.deepEqual(done.results.map((each) => [each.id, each.status]), [
    ["x", "success"],
    ["1", "rejected"],
  ]);
});

test("a stream takes no more than its window, from any source", async () => {
  let taken = 0;
  function* endless() {
    for (;;) {
      taken += 1;
      yield { input: "a" };
    }
  }
  const name = await task();
  let seen = 0;
  for await (const result of loopai.batch.stream(name, endless(), { window: 50 })) {
    assert.deepEqual([result.id, result.output], [String(seen), "A"]);
    seen += 1;
    assert.ok(taken - seen < 50);
    if (seen === 175) break;
  }
  assert.equal(taken, 200);

  let answered;
  const first = new Promise((resolve) => (answered = resolve));
  async function* slow() {
    yield { input: "a" };
    await first;
    yield { input: "b" };
  }
  const found = [];
  for await (const result of loopai.batch.stream(name, slow())) {
    found.push(result.output);
    answered();
  }
  assert.deepEqual(found, ["A", "B"]);
});

test("the system can be looked at", async () => {
  assert.equal((await loopai.health()).checks.broker, "ok");
  assert.deepEqual(await loopai.sync(), []);
  assert.ok(Array.isArray(await loopai.queues()));
});
