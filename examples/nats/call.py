"""Call a task over NATS and print its result: `python call.py TASK JSON [NATS_URL]`.

Needs `pip install nats-py`.
"""

import asyncio
import json
import sys

import nats


async def main(task: str, value: str, url: str = "nats://127.0.0.1:4222") -> int:
    client = await nats.connect(url)
    subject = f"loopai.v1.call.default.{task.replace('.', '%2E')}"
    payload = json.dumps({"input": json.loads(value), "timeout_ms": 10_000}).encode()
    # A little longer than the task may take: Loopai says itself when that is over.
    answer = await client.request(subject, payload, timeout=12)
    await client.close()
    error = (answer.headers or {}).get("Nats-Service-Error")
    if error:
        print(error, file=sys.stderr)
        return 1
    result = json.loads(answer.data)
    print(result["status"], json.dumps(result["output"]))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
