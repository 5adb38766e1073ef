"""Who reads each setting, and what it means: the words of docs/reference/settings.md."""

from typing import Final

WORDS: Final = {
    "nats_url": (
        "all",
        (
            "Where the broker is; of a cluster, several URLs with commas between. It needs "
            "JetStream, and a `max_payload` of 4 MiB or more."
        ),
    ),
    "http": (
        "ingress",
        "`HOST:PORT` to listen on. `0.0.0.0:8080` for every address.",
    ),
    "http_shared": (
        "ingress",
        (
            "`true`: [several ingress processes](../how-to/deploy.md#several-ingress-processes) "
            "of one user listen on that port, each started with this. Otherwise a second one is "
            "refused. `loopai dev` sets it by `--ingress`."
        ),
    ),
    "site": (
        "ingress, executor, generator, syncer",
        (
            "The name of those who share one store of programs. [Another "
            "site](../how-to/deploy.md#several-sites) has a store, executors and a syncer of its "
            "own."
        ),
    ),
    "data_dir": (
        "ingress, executor, generator",
        (
            "Program texts lie in `artifacts/` below it where `LOOPAI_STORE_URL` names no other "
            "place; all three must see the same folder. For `loopai dev` the broker's data is in "
            "`nats/` below it."
        ),
    ),
    "store_url": (
        "ingress, executor, generator, syncer",
        (
            "[Where program texts lie](../how-to/stores.md): `file:///folder`, or "
            "`s3://bucket/prefix` with the parameters `endpoint`, `region` and `path_style`; "
            "none: `artifacts/` below `LOOPAI_DATA_DIR`. It must be there and let itself be used "
            "when a process starts."
        ),
    ),
    "log_level": (
        "all",
        "`debug`, `info`, `warning` or `error`.",
    ),
    "metrics": (
        "executor, generator, recorder, syncer",
        (
            "`HOST:PORT` where a worker shows [its metrics](metrics.md) at `/metrics`, without "
            "authentication. Port 0 takes a free one, which the log names. `loopai dev` starts "
            "several workers and leaves it out."
        ),
    ),
    "receive_s": (
        "ingress",
        (
            "Seconds that a request may take to come: its head, and its body, for each 4 KiB of "
            "which there is a second more. Else it is 408. A batch as lines has "
            "`LOOPAI_BATCH_IDLE_S` instead."
        ),
    ),
    "body_bytes_max": (
        "ingress",
        (
            "Largest request body; more is 413. An upload of a program may have 2.25 MiB at "
            "least, since JSON writes a line break as two bytes. A task with its examples is one "
            "body too, and one message on the bus, so this is at most `4128768`."
        ),
    ),
    "batch_bytes_max": (
        "ingress",
        "Largest body of `POST /batch/execute`.",
    ),
    "batch_items_max": (
        "ingress",
        "Most items in one batch. A stream of lines has no such limit.",
    ),
    "batch_idle_s": (
        "ingress",
        (
            "How long a batch may stand still: as lines, none comes and none is on its way; or "
            "nobody reads its results."
        ),
    ),
    "waiting_max": (
        "ingress",
        (
            "Callers that wait for a result in one ingress process. More get 503 `OVERLOADED` at "
            "once, which costs next to nothing, so that those who are let in are answered in "
            "time."
        ),
    ),
    "timeout_ms": (
        "ingress",
        ("How long an execute request waits for its result unless it says otherwise."),
    ),
    "timeout_ms_max": (
        "ingress",
        (
            "The most that a request may ask for; at most `3540000`, a minute less than a "
            "cancellation is kept."
        ),
    ),
    "admit_ms_max": (
        "ingress",
        (
            "How long an upload waits for a worker to check its program. Loading may take 2 s, "
            "trying it 5 s, a new cell on a busy machine more."
        ),
    ),
    "execute_backlog_max": (
        "`loopai dev`, `python -m streams`",
        (
            "Messages (of 1 to 256 items) queued for one task and lane; more are refused with "
            "503. It is a limit of the stream: change it with `python -m streams apply`."
        ),
    ),
    "run_ms_max": (
        "executor",
        "Longest run of a program on one input.",
    ),
    "runtimes": (
        "executor",
        (
            "What it runs: `auto` is everything that is installed; else `python`, or "
            "`python,deno` (Deno runs JavaScript and TypeScript). One that is named and not there"
            " stops the start, and so does a Deno that is there and does not work in a cell."
        ),
    ),
    "tenant_backlog_max": (
        "ingress",
        (
            "Messages (of 1 to 256 executions each) queued for one tenant, over all its tasks, as"
            " of a second ago; more are refused with 503."
        ),
    ),
    "executor_slots": (
        "executor",
        (
            "Deliveries that one executor handles at once. An eighth of them is never the bulk "
            "lane's, and while interactive work is about, bulk has one in sixteen."
        ),
    ),
    "tenant_running_max": (
        "executor",
        "Of one tenant, so that others find slots.",
    ),
    "task_running_max": (
        "executor",
        (
            "Of one task in one lane. Its cell runs one batch at a time; the others are prepared "
            "or recorded meanwhile."
        ),
    ),
    "tenant_weights": (
        "executor",
        (
            "Shares of tenants that compete for an executor, as `acme=3,beta=1`, each from 0.01 "
            "to 100; all others have 1."
        ),
    ),
    "cells_max": (
        "executor",
        ("Cells that one executor keeps; the least recently used one goes first."),
    ),
    "cells_bytes_max": (
        "executor, generator",
        (
            "Memory of all cells that one of them keeps, as PSS, looked at every 5 s; while it is"
            " more the least recently used cell that is idle goes. Cells at work stay, so give "
            "the process room above it."
        ),
    ),
    "cell_memory_bytes_max": (
        "executor, generator",
        (
            "Memory of a program: its address space in Python, its heap and what it allocates "
            "beside it in JavaScript. At least `67108864` (64 MiB), most of which the interpreter"
            " takes; a worker tries a cell with it at its start."
        ),
    ),
    "generator_slots": (
        "generator",
        "Generations that one generator handles at once.",
    ),
    "redis_url": (
        "ingress, executor, generator",
        (
            "A Redis that they share [program "
            "texts](../explanation/catalogue.md#where-a-program-text-is-read-from) through: "
            "`redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://…` for TLS, "
            "`unix:///PATH`. None is needed. One that is down is logged and done without; a URL "
            "that is none stops the start."
        ),
    ),
    "cache_ttl_s": (
        "ingress, executor, generator",
        "Seconds that Redis keeps a text; at most `31622400`, a year.",
    ),
    "cache_bytes_max": (
        "ingress, executor, generator",
        (
            "Memory of the program texts that one process keeps; the least recently used one goes"
            " first. A text is 1 MiB at most."
        ),
    ),
    "cache_namespace": (
        "ingress, executor, generator",
        (
            "What keys in Redis begin with, so that several installations can share one: "
            "`<namespace>:v1:program:<digest>`."
        ),
    ),
}
"""By field of `Settings`, in the order of the page."""
