// @ts-self-types="./index.d.ts"
/** Client of Loopai, for Node, Deno and browsers. */

export { Client } from "./client.js";
export {
  ApiError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionFailed,
  DeadlineExceeded,
  ExecutionFailed,
  InvalidRequestError,
  LoopaiError,
  NotFoundError,
  PermissionDeniedError,
  raiseForError,
  RateLimitedError,
  ServerError,
  UnavailableError,
} from "./errors.js";
export { verifyWebhook } from "./webhooks.js";
