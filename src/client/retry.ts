import { status } from "@grpc/grpc-js";
import { randomInt } from "node:crypto";
import type { CardexError } from "./error.js";

/** How often and how patiently a call is repeated. */
export interface RetryPolicy {
  /** Attempts in all, the first one included. */
  readonly attempts_max: number;
  /** Upper bound of the wait before the second attempt; doubles with each further one. */
  readonly backoff_ms: number;
  /** Upper bound of every wait that the server did not ask for. */
  readonly backoff_ms_max: number;
}

/** Five attempts within about three seconds, if the call's deadline allows. */
export const standardRetries: RetryPolicy = { attempts_max: 5, backoff_ms: 200, backoff_ms_max: 5000 };

/**
 * How long to wait before the next attempt, in milliseconds; undefined: don't try again. A wait that the server asked for
 * (RetryInfo) is kept, plus up to a quarter, so that not everybody comes back at once; else exponential with full jitter.
 * @param attempt number of the attempt that failed, from 1
 * @param left_ms time left until the caller's deadline
 */
export function retryDelay_ms(error: CardexError, attempt: number, left_ms: number, policy: RetryPolicy): number | undefined {
  if (attempt >= policy.attempts_max || !mayPass(error)) return undefined;
  const asked = error.retryAfter_ms;
  const delay_ms =
    asked === undefined
      ? randomInt(1, Math.min(policy.backoff_ms * 2 ** (attempt - 1), policy.backoff_ms_max) + 1)
      : asked + randomInt(0, Math.ceil(asked / 4) + 1);
  return delay_ms < left_ms ? delay_ms : undefined;
}

/**
 * Whether the same request may succeed later. RESOURCE_EXHAUSTED without a RetryInfo is a message that is too large, and stays
 * too large.
 */
function mayPass(error: CardexError): boolean {
  if (error.code === status.UNAVAILABLE) return true;
  return error.code === status.RESOURCE_EXHAUSTED && error.retryAfter_ms !== undefined;
}
