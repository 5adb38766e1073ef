// Publish an execution durably and wait for its record: `node publish.mjs TASK JSON [NATS_URL]`.
// Needs `npm install` in this folder.

import { randomBytes } from "node:crypto";

import { jetstream } from "@nats-io/jetstream";
import { connect, createInbox, headers } from "@nats-io/transport-node";

// The time in ms, then chance: the time says where in the log the record is.
function uuid7() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const [task, value, servers = "nats://127.0.0.1:4222"] = process.argv.slice(2);
const client = await connect({ servers });
const id = uuid7();
const inbox = createInbox();
const answers = client.subscribe(inbox, { max: 1, timeout: 35_000 }); // before publishing: answers are not kept
const sent = headers();
sent.set("Content-Type", "application/json");
sent.set("Loopai-Reply-To", inbox);
const acknowledged = await jetstream(client).publish(
  `loopai.v1.execute.interactive.default.${task.replaceAll(".", "%2E")}`,
  JSON.stringify({ id, input: JSON.parse(value) }),
  { headers: sent, msgID: id }, // published twice, it is stored once
);
console.error(`stored as ${acknowledged.stream} ${acknowledged.seq}: ${id}`);
for await (const answer of answers) {
  const result = answer.json();
  console.log(result.status, JSON.stringify(result.output));
  process.exitCode = result.status === "success" ? 0 : 1;
}
await client.close();
