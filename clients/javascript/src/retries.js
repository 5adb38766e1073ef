/** When a request is sent again: exponential backoff with full jitter, within a deadline. */

import { ApiError, ConnectionFailed, DeadlineExceeded } from "./errors.js";

const RETRIED_STATUSES = new Set([429, 502, 503, 504]);
/** A 409: the request before, with the same key, has not ended yet. */
const RETRIED_CODE = "IDEMPOTENCY_KEY_IN_USE";
/** A 504: the caller's own `timeout_ms` is over, and asking again would outlast it. */
const FINAL_CODE = "DEADLINE_PASSED";
/** The first pause, and the longest, are chosen between nothing and these. */
const FIRST_S = 0.25;
const LONGEST_S = 8;

/** Seconds of a clock that is never set back. */
export function now() {
  return performance.now() / 1000;
}

export class Attempts {
  constructor(retriesMax, deadlineS) {
    this.retriesMax = retriesMax;
    this.made = 0;
    this.ends = now() + deadlineS;
  }

  /** Seconds until the deadline. DeadlineExceeded when there are none. */
  get remainingS() {
    const left = this.ends - now();
    if (left <= 0) throw new DeadlineExceeded("no answer before the deadline");
    return left;
  }

  /** How long to wait before the next attempt; throws `error` where there is none. */
  pauseS(error) {
    if (this.made >= this.retriesMax || !mayPass(error)) throw error;
    let pause = Math.random() * Math.min(LONGEST_S, FIRST_S * 2 ** this.made);
    if (error instanceof ApiError && error.retry_after_s !== null) pause += error.retry_after_s;
    if (now() + pause >= this.ends) throw error;
    this.made += 1;
    return pause;
  }
}

function mayPass(error) {
  if (error instanceof ApiError) {
    const retried = RETRIED_STATUSES.has(error.status) || error.code === RETRIED_CODE;
    return retried && error.code !== FINAL_CODE;
  }
  return error instanceof ConnectionFailed;
}

/** Seconds in a `Retry-After` header, which may have a date (RFC 9110, section 10.2.3); or null. */
export function retryAfterS(header) {
  if (!header) return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header);
  if (!/GMT\s*$/.test(header)) return null;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1000);
}

/** Returns after `seconds`; throws the reason of `signal` when that comes first. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stopped = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stopped);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stopped, { once: true });
  });
}
