/** Client of Loopai, for Node, Deno and browsers. Fields are as the API has them; a newer server may add some. */

// deno-lint-ignore no-explicit-any -- JSON of the caller's own making
export type Json = any;

export interface Options {
  /** Ends the call: it throws the signal's reason. */
  signal?: AbortSignal;
}

export interface WaitOptions extends Options {
  /** Seconds that the server may wait for the end; 0: not at all. */
  waitS?: number;
}

export interface MatchOptions extends Options {
  /** Only at this `revision`; otherwise ConflictError. */
  ifMatch?: number;
}

export interface ClientOptions {
  /** LOOPAI_URL, the page's origin, or http://127.0.0.1:8080 where it is not given. */
  url?: string;
  /** LOOPAI_API_KEY where it is not given. */
  apiKey?: string;
  /** How often a request that failed for a moment is sent again: 5. With 0 it has no idempotency key. */
  maxRetries?: number;
  /** Seconds that all attempts may take together: 60. */
  deadlineS?: number;
}

export interface Example {
  input: Json;
  output: Json;
}

export interface TaskFields {
  description?: string;
  input_schema?: Json;
  output_schema?: Json;
  examples?: Example[];
  accuracy_target?: number;
  latency_target_ms?: number;
  sampling_rate?: number;
}

export interface Task extends Required<TaskFields> {
  id: string;
  tenant: string;
  name: string;
  created_at: string;
  updated_at: string;
  revision: number;
}

export interface Operation {
  id: string;
  kind: string;
  tenant: string;
  task: string;
  task_id: string;
  status: "queued" | "running" | "succeeded" | "failed";
  stage: string;
  version: number | null;
  activated: boolean;
  message: string;
  error: { code: string; message: string } | null;
  created_at: string;
  updated_at: string;
}

export interface Artifact {
  id: string;
  task_id: string;
  version: number;
  language: string;
  digest: string;
  size_bytes: number;
  status: string;
  status_reason: string;
  isolation: string;
  engine: string;
  confidence_score: number | null;
  evaluation: Json;
  complexity_metrics: Json;
  /** The program; not in a list. */
  code?: string;
  created_at: string;
  deployed_at: string | null;
  created_by: string;
}

export interface Canary {
  version: number;
  percent: number;
  stage?: number;
  started_at?: string;
}

export interface Rollout {
  task_id: string;
  active: number | null;
  canary: Canary | null;
  shadow: number | null;
  history: {
    at: string;
    by: string;
    action: string;
    version: number | null;
    previous: number | null;
    percent: number | null;
    forced: boolean;
  }[];
}

export interface ProgramError {
  type: string;
  message: string;
  outcome: string;
  line: number | null;
  traceback: string;
}

/** Of one that has not ended there is only what has no question mark. */
export interface Execution {
  id: string;
  execution_id: string;
  status: "success" | "error" | "timeout" | "rejected" | "cancelled" | "queued" | "cancelling";
  task?: string;
  task_id?: string | null;
  program_id?: string | null;
  version?: number | null;
  input?: Json;
  output?: Json;
  error_message?: string | null;
  error?: ProgramError | null;
  latency_ms?: number;
  latency?: { queue: number; run: number; total: number };
  memory_usage_mb?: number | null;
  stdout?: string;
  sampled_for_validation?: boolean;
  attempt?: number;
  trace_id?: string;
  executed_at?: string;
}

export interface Item {
  /** Its number, from 0, where it is not given. */
  id?: string;
  input: Json;
  routing_key?: string;
  force_validation?: boolean;
}

export interface ItemResult {
  id: string;
  execution_id: string | null;
  status: "success" | "error" | "timeout" | "rejected" | "cancelled";
  output: Json;
  error_message: string | null;
  error: ProgramError | null;
  version: number | null;
  latency_ms: number | null;
  sampled_for_validation: boolean;
}

export interface BatchResult {
  results: ItemResult[];
  batch_id: string;
  task_id: string;
  total: number;
  succeeded: number;
  failed: number;
  duration_ms: number;
}

/** One Server-Sent Event. */
export interface Event<T> {
  kind: string;
  data: T;
  id: string;
}

export interface Queue {
  task: string;
  lane: "interactive" | "bulk";
  runtime: string | null;
  queued: number;
  running: number;
  oldest_s: number | null;
  rate: number;
}

export interface Site {
  site: string;
  store: string;
  versions: number;
  missing: number;
  lag_s: number;
  conflicts: number;
  latest_conflicts: Json[];
  reason: string;
  updated_at: string;
}

export interface Health {
  status: "healthy" | "degraded";
  version: string;
  timestamp: string;
  checks: Record<string, string>;
  workers: Record<string, number>;
}

export interface ApiKey {
  id: string;
  tenant: string;
  name: string;
  scopes: string[];
  last4: string;
  /** The key itself, in the answer that made it and no other. */
  key?: string;
  created_at: string;
  created_by: string;
  expires_at: string | null;
  revoked_at: string | null;
  revoked_by: string;
}

export interface WebhookFields {
  task?: string | null;
  secret?: string;
  description?: string;
  enabled?: boolean;
}

export interface Webhook {
  id: string;
  url: string;
  events: string[];
  task: string | null;
  description: string;
  enabled: boolean;
  disabled_reason: string;
  /** In the answer that made it and no other. */
  secret?: string;
  former_secret_until: string | null;
  created_at: string;
  created_by: string;
  updated_at: string;
}

export interface Delivery {
  id: string;
  type: string;
  status: "succeeded" | "retrying" | "failed";
  created_at: string;
  next_attempt_at: string | null;
  attempts: {
    number: number;
    at: string;
    status_code: number | null;
    error: string | null;
    response: string | null;
    duration_ms: number;
  }[];
}

export interface ExecuteOptions extends WaitOptions {
  version?: number;
  /** How long it may take; then ApiError with DEADLINE_PASSED, or `status` "timeout". */
  timeout_ms?: number;
  /** Which side of a canary it is on. */
  routing_key?: string;
  force_validation?: boolean;
  /** What has the same key is the same request; a random one where it is not given. */
  idempotencyKey?: string;
}

export interface OperationOptions extends Options {
  /** Seconds until DeadlineExceeded: 300. */
  timeoutS?: number;
  /** Called with the operation whenever it has come further. */
  onProgress?: (operation: Operation) => void;
}

/** Talks to Loopai over HTTP. There is nothing to close. */
export class Client {
  constructor(options?: ClientOptions);

  /** Run a task and wait for how it ends, which may be an error of the program. */
  execute(task: string, input: Json, options?: ExecuteOptions): Promise<Execution>;

  /** Make a program from the task's examples and wait for it; `timeoutS` 0: do not wait. */
  generate(
    task: string,
    options?: OperationOptions & { engine?: string; seed?: number; activate?: boolean },
  ): Promise<Operation>;

  /** What is queued and running, of one task or of all. */
  queues(options?: Options & { task?: string }): Promise<Queue[]>;

  /** How far the store of each site follows the registry. */
  sync(options?: Options): Promise<Site[]>;

  /** What works. It needs no key. */
  health(options?: Options): Promise<Health>;

  readonly tasks: {
    create(name: string, options?: TaskFields & Options): Promise<Task>;
    get(task: string, options?: Options): Promise<Task>;
    /** All tasks by name, without their examples. */
    list(options?: Options): Promise<Task[]>;
    /** Change the fields given. */
    change(task: string, options?: TaskFields & MatchOptions): Promise<Task>;
    delete(task: string, options?: MatchOptions): Promise<void>;
  };

  readonly artifacts: {
    /** A version by hand. InvalidRequestError with INVALID_PROGRAM where it cannot run. */
    upload(
      task: string,
      code: string,
      options?: Options & { language?: string; isolation?: string; activate?: boolean },
    ): Promise<Artifact>;
    list(task: string, options?: Options): Promise<Artifact[]>;
    get(task: string, version: number, options?: Options): Promise<Artifact>;
    /** The text of one version, alone. */
    program(task: string, version: number, options?: Options): Promise<string>;
    /** Let this version answer; a draft or a failed one takes `force`. */
    activate(
      task: string,
      version: number,
      options?: Options & { force?: boolean },
    ): Promise<Rollout>;
  };

  readonly rollout: {
    get(task: string, options?: Options): Promise<Rollout>;
    /** Change what is given; null removes a canary or a shadow. */
    change(
      task: string,
      options?: MatchOptions & {
        active?: number;
        canary?: Canary | null;
        shadow?: number | null;
        force?: boolean;
      },
    ): Promise<Rollout>;
    promote(task: string, options?: Options): Promise<Rollout>;
    rollback(task: string, options?: Options): Promise<Rollout>;
  };

  readonly executions: {
    get(id: string, options?: WaitOptions): Promise<Execution>;
    /** The execution once it has ended. DeadlineExceeded after `timeoutS`, 300. */
    wait(id: string, options?: Options & { timeoutS?: number }): Promise<Execution>;
    /** Ask for its end. ConflictError with EXECUTION_ENDED where there is nothing to end. */
    cancel(id: string, options?: WaitOptions): Promise<Execution>;
    /** `queued`, then `ended`; taken up again where the connection breaks. */
    events(id: string, options?: Options): AsyncGenerator<Event<Execution>, void, void>;
  };

  readonly operations: {
    get(id: string, options?: WaitOptions): Promise<Operation>;
    /** The operation once it has ended. DeadlineExceeded. */
    wait(id: string, options?: OperationOptions): Promise<Operation>;
    /** `progress` at each change, then `ended`; taken up again where the connection breaks. */
    events(id: string, options?: Options): AsyncGenerator<Event<Operation>, void, void>;
  };

  readonly batch: {
    /** Results of all items, in their order; at most 10,000 in 16 MiB. */
    run(
      task: string,
      items: Item[],
      options?: Options & {
        version?: number;
        timeout_ms?: number;
        max_concurrency?: number;
        stop_on_first_error?: boolean;
        idempotencyKey?: string;
      },
    ): Promise<BatchResult>;
    /**
     * Results of items in their order, however many there are. No more than `window` (500) of them
     * are taken and not yet answered; each window is a request of its own, sent again under its key.
     */
    stream(
      task: string,
      items: Iterable<Item> | AsyncIterable<Item>,
      options?: Options & { version?: number; timeout_ms?: number; window?: number },
    ): AsyncGenerator<ItemResult, void, void>;
  };

  /** These take the scope `admin`. */
  readonly keys: {
    create(
      name: string,
      scopes: string[],
      options?: Options & { tenant?: string; expires_at?: string },
    ): Promise<ApiKey>;
    list(options?: Options & { tenant?: string }): Promise<ApiKey[]>;
    revoke(id: string, options?: Options): Promise<ApiKey>;
  };

  readonly webhooks: {
    create(url: string, events: string[], options?: WebhookFields & Options): Promise<Webhook>;
    get(id: string, options?: Options): Promise<Webhook>;
    change(
      id: string,
      options?: WebhookFields & Options & {
        url?: string;
        events?: string[];
        rotate_secret?: boolean;
      },
    ): Promise<Webhook>;
    delete(id: string, options?: Options): Promise<void>;
    /** Have a `webhook.ping` posted: the id is that of the delivery. */
    ping(id: string, options?: Options): Promise<{ id: string }>;
    deliveries(id: string, options?: Options): Promise<Delivery[]>;
    redeliver(id: string, delivery: string, options?: Options): Promise<{ id: string }>;
    list(options?: Options): Promise<Webhook[]>;
  };
}

/** Everything that this package throws by itself. */
export class LoopaiError extends Error {}
/** No whole answer came: the request may have been done or not. */
export class ConnectionFailed extends LoopaiError {}
/** The time that the caller gave was over before there was an answer. */
export class DeadlineExceeded extends LoopaiError {}
/** An execution ended without an output. */
export class ExecutionFailed extends LoopaiError {
  readonly execution: Execution | ItemResult;
}
/** The server refused or failed; act on `code`, `detail` is for people. */
export class ApiError extends LoopaiError {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly errors: { path: string; message: string }[];
  readonly trace_id: string | null;
  readonly retry_after_s: number | null;
  /** Other members of the problem document, such as `execution_id`. */
  readonly extra: Record<string, Json>;
}
/** A 4xx without a class of its own. */
export class BadRequestError extends ApiError {}
/** 401 */
export class AuthenticationError extends ApiError {}
/** 403 */
export class PermissionDeniedError extends ApiError {}
/** 404 */
export class NotFoundError extends ApiError {}
/** 409 and 412 */
export class ConflictError extends ApiError {}
/** 422 */
export class InvalidRequestError extends ApiError {}
/** 429 */
export class RateLimitedError extends ApiError {}
/** 5xx */
export class ServerError extends ApiError {}
/** 503 */
export class UnavailableError extends ServerError {}

/** What was given, if it has an output. ExecutionFailed. */
export function raiseForError<T extends Execution | ItemResult>(execution: T): T;

/** Whether Loopai has signed `body`, the bytes as they came, within the last five minutes. */
export function verifyWebhook(
  headers: Headers | Record<string, string | string[] | undefined>,
  body: ArrayBuffer | Uint8Array | string,
  secret: string,
): Promise<boolean>;
