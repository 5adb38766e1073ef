"""Who reads each setting, and what it means: the words of docs/reference/settings.md."""

from typing import Final

WORDS: Final = {
    "nats_url": (
        "all",
        (
            "Where the broker is; of a cluster, several URLs with commas between. It needs "
            "JetStream, and a `max_payload` of 4 MiB or more. [A user and a password](../how-"
            "to/secure-the-bus.md) may stand in it: `nats://USER:PASSWORD@HOST:PORT`."
        ),
    ),
    "nats_creds": (
        "all",
        "File with a user's JWT and seed, as `nsc` writes it.",
    ),
    "nats_nkey": (
        "all",
        "File with the seed of a user's nkey (`SU…`). Give one of the two at most.",
    ),
    "nats_ca": (
        "all",
        (
            "File with the certificates by which to trust the broker's, where the URL is "
            "`tls://…`; none: those of the system."
        ),
    ),
    "http": (
        "ingress",
        "`HOST:PORT` to listen on. `0.0.0.0:8080` for every address.",
    ),
    "grpc": (
        "ingress",
        (
            "`HOST:PORT` to serve [the API over gRPC](../how-to/grpc.md) on, beside HTTP; takes "
            "the extra `grpc`. `loopai dev` sets it by `--grpc`."
        ),
    ),
    "http_shared": (
        "ingress",
        (
            "`true`: [several ingress processes](../how-to/deploy.md#several-ingress-processes) "
            "of one user listen on that port, each started with this. Otherwise a second one is "
            "refused. `loopai dev` sets it by `--ingress`."
        ),
    ),
    "auth": (
        "ingress, `loopai dev`",
        (
            "[Who may use the API](../how-to/secure.md). `required`: whoever has a key or a "
            "token. `none`: everybody who can reach it, as an admin of the tenant `default`. "
            "`auto`: the same on a loopback address; on any other the ingress refuses to start."
        ),
    ),
    "jwt_issuer": (
        "ingress",
        (
            "URL of the [OIDC issuer](../how-to/secure.md#tokens-of-an-oidc-issuer) whose tokens "
            "are taken beside API keys, letter by letter as its tokens have it in `iss`; https, "
            "or http on this machine. With it `auto` means `required`."
        ),
    ),
    "jwt_audience": (
        "ingress",
        "What those tokens must have in `aud`. Needed with an issuer.",
    ),
    "jwt_jwks_url": (
        "ingress",
        (
            "Where the issuer's keys are; found at `<issuer>/.well-known/openid-configuration` if"
            " not set."
        ),
    ),
    "jwt_tenant_claim": (
        "ingress",
        "The claim that names the tenant.",
    ),
    "jwt_scopes_claim": (
        "ingress",
        (
            "The claim that has the scopes: a text with blanks between them, or a list. Scopes "
            "that are not ours are passed over."
        ),
    ),
    "site": (
        "ingress, executor, generator, syncer",
        (
            "The name of those who share one store of programs. [Another site](../how-"
            "to/deploy.md#several-sites) has a store, executors and a syncer of its own."
        ),
    ),
    "cors_origins": (
        "ingress",
        (
            "Origins whose pages [may call the API from a browser](../how-"
            "to/secure.md#pages-of-other-origins), with commas between, such as "
            "`https://app.example.com`; empty: none but its own. `*`: any, where callers are "
            "asked for a key."
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
        "executor, gateway, generator, recorder, syncer, notifier",
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
        "ingress, gateway",
        (
            "Largest request body, or payload of a call; more is 413. An upload of a program may "
            "have 2.25 MiB at least, since JSON writes a line break as two bytes. A task with its"
            " examples is one body too, and one message on the bus, so this is at most `4128768`."
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
        "ingress, gateway",
        (
            "Callers that wait for a result in one process; and, counted by themselves, those "
            "that wait for or listen to what was sent before. More get 503 `OVERLOADED` at once, "
            "which costs next to nothing, so that those who are let in are answered in time."
        ),
    ),
    "timeout_ms": (
        "ingress, gateway",
        "How long an execute request waits for its result unless it says otherwise.",
    ),
    "timeout_ms_max": (
        "ingress, gateway",
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
    "rate_limit": (
        "ingress",
        (
            "Requests below `/api/v1` of [one caller](http.md#limits), as `1000/second`, or "
            "`/minute`, `/hour`, `/day`, of 1000000000 at most; more are refused with 429. A key "
            "may have a rate of its own."
        ),
    ),
    "execution_quota": (
        "ingress",
        "Executions of one caller, as `100000/day`; the same. A batch costs its items.",
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
        "ingress, gateway",
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
        "Cells that one executor keeps; the least recently used one goes first.",
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
            "A Redis that they share [program texts](../explanation/catalogue.md#where-a-program-"
            "text-is-read-from) through, and ingresses the counts of [limits](http.md#limits): "
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
            "`<namespace>:v1:program:<digest>`, `<namespace>:v1:rate:…`."
        ),
    ),
    "webhook_private": (
        "ingress, notifier",
        (
            "Whether [webhooks](../how-to/webhooks.md#where-webhooks-may-lead) may call addresses"
            " that are not public, such as this machine's own or those of a private network: "
            "`refused`, `allowed`, or networks with commas between, such as "
            "`10.1.0.0/16,fd00::/8`."
        ),
    ),
}
"""By field of `Settings`, in the order of the page."""
