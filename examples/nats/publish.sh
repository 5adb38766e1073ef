#!/bin/sh
# Publish an execution durably: `./publish.sh TASK JSON [NATS_URL]`. Needs the `nats` command.
# It prints the broker's acknowledgement; `loopai audit tail --follow` shows the record.
set -eu
exec nats --server "${3:-nats://127.0.0.1:4222}" req --raw -H Content-Type:application/json \
  "loopai.v1.execute.interactive.default.$(printf %s "$1" | sed 's/\./%2E/g')" "{\"input\": $2}"
