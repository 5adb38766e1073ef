"""One sample of every message, with every field set: what the golden files hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from streams import codec, messages

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
ID = "019b7e4f-6c2e-7abc-8def-0123456789ab"
TASK_ID = "019b7e4f-0000-7000-8000-000000000001"
RAW = msgspec.Raw(b'{"type":"string"}')

ITEM = messages.ExecuteItem(
    id=ID,
    input=b'{"text":"caf\xc3\xa9"}',
    version=3,
    deadline_ms=1_767_323_075_678,
    force_validation=True,
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    routing_key="user-17",
)
RECORD = messages.ExecutionRecord(
    id=ID,
    tenant="default",
    task="spam.filter",
    task_id=TASK_ID,
    program_id=ID,
    version=3,
    input=b'{"text":"caf\xc3\xa9"}',
    output=b'"ham"',
    status="error",
    error=messages.ExecutionError(
        type="ValueError",
        message="line 2: no",
        outcome="error",
        line=2,
        traceback="  line 2, in run\n",
    ),
    latency_ms=messages.Latency(queue=0.5, run=0.25, total=1.5),
    memory_usage_mb=12.5,
    stdout="hello\n",
    sampled_for_validation=True,
    attempt=2,
    worker="executor-1a2b3c4d",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    executed_at=WHEN,
    shadow=True,
)
CHANGE = messages.RolloutChange(
    at=WHEN,
    by="api",
    action="canary",
    version=4,
    previous=2,
    percent=5.0,
    forced=True,
)
ROLLOUT = messages.Rollout(
    task_id=TASK_ID,
    active=3,
    canary=messages.Canary(version=4, percent=5.0, stage=1, started_at=WHEN),
    shadow=5,
    history=(CHANGE,),
)
DELIVERY = messages.WebhookDelivery(
    id=ID,
    webhook_id=TASK_ID,
    type="execution.failed",
    body=b'{"type":"execution.failed"}',
    created_at=WHEN,
    attempt=2,
    due_at=WHEN,
)
REQUEST = messages.ExecuteRequest(
    input=msgspec.Raw(b'{"text":"hi"}'),
    id=ID,
    version=3,
    timeout_ms=1000,
    force_validation=True,
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    routing_key="user-17",
)

CLAIM = messages.IdempotencyClaim(
    fingerprint="5f" * 32,
    tenant="default",
    task="spam.filter",
    task_id=TASK_ID,
    execution_id=ID,
    timeout_ms=30_000,
    answer=messages.KeptAnswer(
        status=201,
        headers={"content-type": "application/json"},
        body="{}",
        scopes=("operate",),
    ),
    claimed_at=WHEN,
)
API_KEY = messages.ApiKey(
    id=ID,
    tenant="default",
    name="ci",
    scopes=("execute", "observe"),
    hash="5f" * 32,
    last4="x-_9",
    created_at=WHEN,
    created_by="first",
    expires_at=WHEN,
    rate="100/second",
    quota="10000/day",
    revoked_at=WHEN,
    revoked_by="first",
)
SAMPLES: dict[str, tuple[codec.Codec[Any], messages.Message]] = {
    "execute_batch": (
        codec.EXECUTE,
        messages.ExecuteBatch(items=(ITEM,), task_id=TASK_ID, validated=True),
    ),
    "execute_request": (codec.EXECUTE_REQUEST, REQUEST),
    "record_batch": (codec.RECORDS, messages.RecordBatch(records=(RECORD,))),
    "admit_request": (
        codec.ADMIT_REQUEST,
        messages.AdmitRequest(
            tenant="default",
            language="typescript",
            code="export const run = (input: string) => input;",
            isolation="call",
            inputs=(b'"a"',),
            deadline_ms=1_767_323_075_678,
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        ),
    ),
    "admit_answer": (
        codec.ADMIT_ANSWER,
        messages.AdmitAnswer(
            status="refused",
            reason="line 2: no",
            line=2,
            isolation="batch",
            stateful=True,
            latency_ms=0.25,
        ),
    ),
    "generate_request": (
        codec.GENERATE,
        messages.GenerateRequest(
            operation_id=ID,
            task_id=TASK_ID,
            engine="llm",
            strategy="ml",
            seed=7,
            activate=False,
            requested_at=WHEN,
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
        ),
    ),
    "event": (
        codec.EVENT,
        messages.Event(
            kind="execution",
            task="spam.filter",
            tenant="default",
            time=WHEN,
            sequence=42,
            data=b'{"count":3}',
        ),
    ),
    "dead_letter": (
        codec.DEAD,
        messages.DeadLetter(
            stream="EXECUTE",
            sequence=9,
            subject="loopai.v1.execute.bulk.default.spam%2Efilter",
            reason="max_deliveries",
            detail="gave up",
            deliveries=5,
            headers={"Loopai-Reply-To": "loopai.v1.reply.ingress-1"},
            payload=b"\x81",
            execution_ids=(ID,),
            dead_at=WHEN,
        ),
    ),
    "task_specification": (
        codec.TASK,
        messages.TaskSpecification(
            id=TASK_ID,
            tenant="default",
            name="spam.filter",
            description="Spam or not",
            input_schema=RAW,
            output_schema=RAW,
            examples=(messages.Example(input=msgspec.Raw(b'"a"'), output=msgspec.Raw(b'"b"')),),
            accuracy_target=0.95,
            latency_target_ms=5.0,
            sampling_rate=0.2,
            created_at=WHEN,
            updated_at=WHEN,
            revision=4,
        ),
    ),
    "task_head": (
        codec.TASK_HEAD,
        messages.TaskHead(
            id=TASK_ID,
            tenant="default",
            name="spam.filter",
            description="Spam or not",
            input_schema=RAW,
            output_schema=RAW,
            accuracy_target=0.95,
            created_at=WHEN,
            updated_at=WHEN,
            revision=4,
        ),
    ),
    "program_artifact": (
        codec.ARTIFACT,
        messages.ProgramArtifact(
            id=ID,
            task_id=TASK_ID,
            version=3,
            language="python",
            digest="ab" * 32,
            size_bytes=1234,
            synthesis_strategy="ml",
            engine="examples",
            confidence_score=0.9,
            complexity_metrics=messages.ComplexityMetrics(
                cyclomatic_complexity=3, lines_of_code=40, estimated_latency_ms=0.02
            ),
            evaluation=messages.Evaluation(
                examples_seen=80,
                examples_held_out=20,
                held_out_accuracy=0.95,
                lower_bound=0.9,
                classes=(messages.ClassScore(label="ham", precision=0.9, recall=0.8, support=10),),
                tolerance=0.5,
            ),
            llm_provider="openai",
            llm_model="some-model",
            generation_cost=0.01,
            generation_time_sec=2.5,
            isolation="batch",
            status="validated",
            status_reason="good",
            created_at=WHEN,
            deployed_at=WHEN,
            created_by="api",
        ),
    ),
    "rollout": (codec.ROLLOUT, ROLLOUT),
    "operation": (
        codec.OPERATION,
        messages.Operation(
            id=ID,
            tenant="default",
            task="spam.filter",
            task_id=TASK_ID,
            status="failed",
            stage="fitting",
            version=3,
            activated=True,
            message="too few",
            error=messages.Problem(code="TOO_FEW_EXAMPLES", message="too few"),
            created_at=WHEN,
            updated_at=WHEN,
        ),
    ),
    "cancellation": (
        codec.CANCELLATION,
        messages.Cancellation(tenant="default", requested_at=WHEN),
    ),
    "api_key": (codec.KEY, API_KEY),
    "idempotency_claim": (codec.IDEMPOTENCY, CLAIM),
    "site_state": (
        codec.SITE,
        messages.SiteState(
            site="eu",
            store="s3://programs/eu",
            versions=812,
            missing=1,
            lag_s=3.25,
            conflicts=1,
            latest=(
                messages.DigestConflict(
                    tenant="default",
                    task="spam.filter",
                    version=3,
                    expected="5f" * 32,
                    found="a0" * 32,
                    at=WHEN,
                ),
            ),
            reason="cannot write it",
            updated_at=WHEN,
        ),
    ),
    "worker_presence": (
        codec.WORKER,
        messages.WorkerPresence(
            pool="executor",
            instance="executor-1a2b3c4d",
            host="node-1",
            pid=77,
            slots=32,
            languages=("python",),
            started_at=WHEN,
            running={"loopai.v1.execute.interactive.6.3.default.spam%2Efilter": 2},
            rates={"loopai.v1.execute.interactive.6.3.default.spam%2Efilter": 12.5},
        ),
    ),
    "webhook": (
        codec.WEBHOOK,
        messages.Webhook(
            id=ID,
            tenant="default",
            url="https://example.com/hook",
            events=("execution.failed", "artifact.activated"),
            task="spam.filter",
            secret="whsec_c2VjcmV0",  # noqa: S106 (a sample)
            former_secret="whsec_Zm9ybWVy",  # noqa: S106 (likewise)
            former_until=WHEN,
            description="pages the team",
            enabled=False,
            disabled_reason="the endpoint answered 410 Gone",
            since=WHEN,
            created_at=WHEN,
            created_by="api",
            updated_at=WHEN,
        ),
    ),
    "webhook_delivery": (codec.WEBHOOK_DELIVERY, DELIVERY),
    "webhook_attempt": (
        codec.WEBHOOK_ATTEMPT,
        messages.WebhookAttempt(
            delivery=DELIVERY,
            at=WHEN,
            outcome="retrying",
            status_code=503,
            error="the endpoint answered 503",
            response="busy",
            duration_ms=12.5,
            next_at=WHEN,
        ),
    ),
}

FORMER: dict[str, messages.Message] = {
    "v1/execute_batch.msgpack": messages.ExecuteBatch(
        items=(msgspec.structs.replace(ITEM, routing_key=None),), task_id=TASK_ID, validated=True
    ),
    "v1/execute_request.json": msgspec.structs.replace(REQUEST, routing_key=None),
    "v1/rollout.json": msgspec.structs.replace(
        ROLLOUT,
        history=(
            messages.RolloutChange(at=WHEN, by="api", action="activate", version=3, previous=2),
        ),
    ),
    "v1/record_batch.msgpack": messages.RecordBatch(
        records=(
            msgspec.structs.replace(
                RECORD,
                error=messages.ExecutionError(type="ValueError", message="line 2: no"),
                shadow=False,
            ),
        )
    ),
    "v2/record_batch.msgpack": messages.RecordBatch(
        records=(msgspec.structs.replace(RECORD, shadow=False),)
    ),
    "v1/idempotency_claim.json": msgspec.structs.replace(
        CLAIM, answer=msgspec.structs.replace(CLAIM.answer, scopes=())
    ),
    "v1/api_key.json": msgspec.structs.replace(API_KEY, rate="", quota=""),
    "v1/worker_presence.json": messages.WorkerPresence(
        pool="executor",
        instance="executor-1a2b3c4d",
        host="node-1",
        pid=77,
        slots=32,
        languages=("python",),
        started_at=WHEN,
    ),
}
"""What golden files hold that were written before their message got its latest fields."""

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> Path:
    """The file that holds a sample as it is written today: the latest of its name.

    A new message lies in the first folder; one that has got fields, in the next one to its last.
    """
    codec, sample = SAMPLES[name]
    suffix = "json" if codec.encode(sample).startswith(b"{") else "msgpack"
    former = sum(Path(path).name == f"{name}.{suffix}" for path in FORMER)
    return GOLDEN / f"v{former + 1}" / f"{name}.{suffix}"
