import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecuteRequest(_message.Message):
    __slots__ = ("task", "input", "version", "timeout_ms", "force_validation", "routing_key", "idempotency_key", "wait_s")
    TASK_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    FORCE_VALIDATION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_KEY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    task: str
    input: bytes
    version: int
    timeout_ms: int
    force_validation: bool
    routing_key: str
    idempotency_key: str
    wait_s: float
    def __init__(self, task: _Optional[str] = ..., input: _Optional[bytes] = ..., version: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., force_validation: _Optional[bool] = ..., routing_key: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., wait_s: _Optional[float] = ...) -> None: ...

class Execution(_message.Message):
    __slots__ = ("id", "task", "task_id", "program_id", "version", "status", "output", "error_message", "error", "latency_ms", "latency", "memory_usage_mb", "stdout", "sampled_for_validation", "attempt", "trace_id", "executed_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_MB_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FOR_VALIDATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    task: str
    task_id: str
    program_id: str
    version: int
    status: str
    output: bytes
    error_message: str
    error: ExecutionError
    latency_ms: float
    latency: Latency
    memory_usage_mb: float
    stdout: str
    sampled_for_validation: bool
    attempt: int
    trace_id: str
    executed_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., task: _Optional[str] = ..., task_id: _Optional[str] = ..., program_id: _Optional[str] = ..., version: _Optional[int] = ..., status: _Optional[str] = ..., output: _Optional[bytes] = ..., error_message: _Optional[str] = ..., error: _Optional[_Union[ExecutionError, _Mapping]] = ..., latency_ms: _Optional[float] = ..., latency: _Optional[_Union[Latency, _Mapping]] = ..., memory_usage_mb: _Optional[float] = ..., stdout: _Optional[str] = ..., sampled_for_validation: _Optional[bool] = ..., attempt: _Optional[int] = ..., trace_id: _Optional[str] = ..., executed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExecutionError(_message.Message):
    __slots__ = ("type", "message", "outcome", "line", "traceback")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    outcome: str
    line: int
    traceback: str
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., outcome: _Optional[str] = ..., line: _Optional[int] = ..., traceback: _Optional[str] = ...) -> None: ...

class Latency(_message.Message):
    __slots__ = ("queue", "run", "total")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    queue: float
    run: float
    total: float
    def __init__(self, queue: _Optional[float] = ..., run: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class ExecuteBatchRequest(_message.Message):
    __slots__ = ("terms", "items")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    terms: BatchTerms
    items: BatchItems
    def __init__(self, terms: _Optional[_Union[BatchTerms, _Mapping]] = ..., items: _Optional[_Union[BatchItems, _Mapping]] = ...) -> None: ...

class BatchTerms(_message.Message):
    __slots__ = ("task", "version", "timeout_ms", "ordered", "stop_on_first_error", "max_concurrency", "idempotency_key")
    TASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    STOP_ON_FIRST_ERROR_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    task: str
    version: int
    timeout_ms: int
    ordered: bool
    stop_on_first_error: bool
    max_concurrency: int
    idempotency_key: str
    def __init__(self, task: _Optional[str] = ..., version: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., ordered: _Optional[bool] = ..., stop_on_first_error: _Optional[bool] = ..., max_concurrency: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class BatchItems(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BatchItem]
    def __init__(self, items: _Optional[_Iterable[_Union[BatchItem, _Mapping]]] = ...) -> None: ...

class BatchItem(_message.Message):
    __slots__ = ("input", "id", "force_validation", "routing_key")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_VALIDATION_FIELD_NUMBER: _ClassVar[int]
    ROUTING_KEY_FIELD_NUMBER: _ClassVar[int]
    input: bytes
    id: str
    force_validation: bool
    routing_key: str
    def __init__(self, input: _Optional[bytes] = ..., id: _Optional[str] = ..., force_validation: _Optional[bool] = ..., routing_key: _Optional[str] = ...) -> None: ...

class ExecuteBatchResponse(_message.Message):
    __slots__ = ("results", "summary")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    results: BatchResults
    summary: BatchSummary
    def __init__(self, results: _Optional[_Union[BatchResults, _Mapping]] = ..., summary: _Optional[_Union[BatchSummary, _Mapping]] = ...) -> None: ...

class BatchResults(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchResult, _Mapping]]] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("id", "execution_id", "status", "output", "error_message", "error", "version", "latency_ms", "sampled_for_validation")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FOR_VALIDATION_FIELD_NUMBER: _ClassVar[int]
    id: str
    execution_id: str
    status: str
    output: bytes
    error_message: str
    error: ExecutionError
    version: int
    latency_ms: float
    sampled_for_validation: bool
    def __init__(self, id: _Optional[str] = ..., execution_id: _Optional[str] = ..., status: _Optional[str] = ..., output: _Optional[bytes] = ..., error_message: _Optional[str] = ..., error: _Optional[_Union[ExecutionError, _Mapping]] = ..., version: _Optional[int] = ..., latency_ms: _Optional[float] = ..., sampled_for_validation: _Optional[bool] = ...) -> None: ...

class BatchSummary(_message.Message):
    __slots__ = ("batch_id", "task_id", "total", "succeeded", "failed", "duration_ms", "problem")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    task_id: str
    total: int
    succeeded: int
    failed: int
    duration_ms: float
    problem: Problem
    def __init__(self, batch_id: _Optional[str] = ..., task_id: _Optional[str] = ..., total: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., duration_ms: _Optional[float] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("task", "engine", "seed", "activate", "idempotency_key", "wait_s")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    task: str
    engine: str
    seed: int
    activate: bool
    idempotency_key: str
    wait_s: float
    def __init__(self, task: _Optional[str] = ..., engine: _Optional[str] = ..., seed: _Optional[int] = ..., activate: _Optional[bool] = ..., idempotency_key: _Optional[str] = ..., wait_s: _Optional[float] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("id", "kind", "tenant", "task", "task_id", "status", "stage", "version", "activated", "message", "error", "created_at", "updated_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    tenant: str
    task: str
    task_id: str
    status: str
    stage: str
    version: int
    activated: bool
    message: str
    error: Problem
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., tenant: _Optional[str] = ..., task: _Optional[str] = ..., task_id: _Optional[str] = ..., status: _Optional[str] = ..., stage: _Optional[str] = ..., version: _Optional[int] = ..., activated: _Optional[bool] = ..., message: _Optional[str] = ..., error: _Optional[_Union[Problem, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("execution_id", "operation_id", "last_event_id")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    operation_id: str
    last_event_id: str
    def __init__(self, execution_id: _Optional[str] = ..., operation_id: _Optional[str] = ..., last_event_id: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "kind", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    data: bytes
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...
