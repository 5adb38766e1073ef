// Uses the types as a user does: it is checked, and never run.
import { Client, type Execution, raiseForError } from "./src/index.js";

const loopai = new Client({ url: "http://127.0.0.1:8080", maxRetries: 0 });
const done: Execution = await loopai.execute("a", { text: "b" }, { timeout_ms: 1, waitS: 0 });
const output: string = raiseForError(done).output;
for await (const result of loopai.batch.stream("a", [{ input: output }], { window: 1 })) {
  const id: string = result.id;
  await loopai.executions.cancel(id, { signal: AbortSignal.timeout(1) });
}
for await (const event of loopai.operations.events("x")) {
  const version: number | null = event.data.version;
  await loopai.rollout.change("a", { active: version ?? 1, canary: null });
}
// @ts-expect-error: a name that is mistyped is found.
await loopai.execute("a", 1, { timeoutMs: 1 });
// @ts-expect-error: `input` is required.
await loopai.batch.run("a", [{ id: "b" }]);
