/** What can go wrong: one class for each family of statuses, and three without an answer. */

export class LoopaiError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

export class ConnectionFailed extends LoopaiError {}

export class DeadlineExceeded extends LoopaiError {}

export class ExecutionFailed extends LoopaiError {
  constructor(message, execution) {
    super(message);
    this.execution = execution;
  }
}

const KNOWN = new Set(["type", "title", "status", "detail", "code", "trace_id", "errors"]);
/** Of an answer that is no problem document, such as a proxy's page. */
const DETAIL_CHARACTERS_MAX = 200;

export class ApiError extends LoopaiError {
  constructor(status, document, retryAfterS) {
    const code = document.code ?? "UNKNOWN";
    const detail = document.detail ?? document.title ?? "";
    super(`${status} ${code}: ${detail}`);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.errors = document.errors ?? [];
    this.trace_id = document.trace_id ?? null;
    this.retry_after_s = retryAfterS;
    this.extra = Object.fromEntries(Object.entries(document).filter(([name]) => !KNOWN.has(name)));
  }
}

export class BadRequestError extends ApiError {}
export class AuthenticationError extends ApiError {}
export class PermissionDeniedError extends ApiError {}
export class NotFoundError extends ApiError {}
export class ConflictError extends ApiError {}
export class InvalidRequestError extends ApiError {}
export class RateLimitedError extends ApiError {}
export class ServerError extends ApiError {}
export class UnavailableError extends ServerError {}

const CLASSES = {
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  412: ConflictError,
  422: InvalidRequestError,
  429: RateLimitedError,
  503: UnavailableError,
};

/** The error that an answer of `status` means, whoever wrote it. */
export function errorOf(status, text, retryAfterS) {
  let document;
  try {
    document = JSON.parse(text);
  } catch {
    document = null;
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    document = { detail: text.slice(0, DETAIL_CHARACTERS_MAX) };
  }
  const Class = CLASSES[status] ?? (status >= 500 ? ServerError : BadRequestError);
  return new Class(status, document, retryAfterS);
}

/** `execution` (or the result of an item) if it has an output. ExecutionFailed. */
export function raiseForError(execution) {
  if (execution.status === "success") return execution;
  const why = execution.error_message ?? "no output yet";
  const id = execution.execution_id ?? execution.id;
  throw new ExecutionFailed(`execution ${id}: ${execution.status}: ${why}`, execution);
}
