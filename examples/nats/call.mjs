// Call a task over NATS and print its result: `node call.mjs TASK JSON [NATS_URL]`.
// Needs `npm install` in this folder.

import { connect } from "@nats-io/transport-node";

const [task, value, servers = "nats://127.0.0.1:4222"] = process.argv.slice(2);
const client = await connect({ servers });
const answer = await client.request(
  `loopai.v1.call.default.${task.replaceAll(".", "%2E")}`,
  JSON.stringify({ input: JSON.parse(value), timeout_ms: 10_000 }),
  // A little longer than the task may take: Loopai says itself when that is over.
  { timeout: 12_000 },
);
await client.close();
const error = answer.headers?.get("Nats-Service-Error");
if (error) {
  console.error(error);
  process.exitCode = 1;
} else {
  const result = answer.json();
  console.log(result.status, JSON.stringify(result.output));
}
