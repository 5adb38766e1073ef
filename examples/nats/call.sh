#!/bin/sh
# Call a task over NATS and print its result: `./call.sh TASK JSON [NATS_URL]`. Needs the `nats` command.
set -eu
exec nats --server "${3:-nats://127.0.0.1:4222}" req --raw --timeout 12s \
  "loopai.v1.call.default.$(printf %s "$1" | sed 's/\./%2E/g')" "{\"input\": $2, \"timeout_ms\": 10000}"
