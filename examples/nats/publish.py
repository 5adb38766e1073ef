"""Publish an execution durably and wait for its record: `python publish.py TASK JSON [NATS_URL]`.

Needs `pip install nats-py`.
"""

import asyncio
import json
import secrets
import sys
import time

import nats


def uuid7() -> str:
    """The time in ms, then chance: the time says where in the log the record is."""
    number = time.time_ns() // 1_000_000 << 80 | 7 << 76 | secrets.randbits(76)
    number = number & ~(3 << 62) | 2 << 62
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


async def main(task: str, value: str, url: str = "nats://127.0.0.1:4222") -> int:
    client = await nats.connect(url)
    execution_id, inbox = uuid7(), client.new_inbox()
    answers = await client.subscribe(inbox)  # before publishing: answers are not kept
    acknowledged = await client.jetstream().publish(
        f"loopai.v1.execute.interactive.default.{task.replace('.', '%2E')}",
        json.dumps({"id": execution_id, "input": json.loads(value)}).encode(),
        headers={
            "Content-Type": "application/json",
            "Nats-Msg-Id": execution_id,  # published twice, it is stored once
            "Loopai-Reply-To": inbox,
        },
    )
    print(f"stored as {acknowledged.stream} {acknowledged.seq}: {execution_id}", file=sys.stderr)
    result = json.loads((await answers.next_msg(timeout=35)).data)
    await client.close()
    print(result["status"], json.dumps(result.get("output")))
    return 0 if result["status"] == "success" else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
