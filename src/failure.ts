/**
 * Everything that can go wrong, by name. The names are those of `cardex.v1.Reason` without the prefix; `rpc/status.ts`
 * alone maps them to gRPC codes. Anything thrown that is not a Failure becomes INTERNAL, its cause in the log only.
 */
export type FailureReason =
  | "INVALID_FIELD"
  | "MALFORMED_MESSAGE"
  | "MESSAGE_TOO_LARGE"
  | "UNKNOWN_PRINCIPAL"
  | "DENIED"
  | "NOT_FOUND"
  | "REQUEST_ID_REUSED"
  | "CARD_STATUS"
  | "STATUS_TRANSITION"
  | "VERSION_MISMATCH"
  | "KEY_STATE"
  | "LIMIT"
  | "HSM_UNAVAILABLE"
  | "STORE_UNAVAILABLE"
  | "STOPPING"
  | "INTEGRITY"
  | "DEADLINE"
  | "CANCELLED"
  | "UNKNOWN_METHOD"
  | "INTERNAL";

/** One field that was wrong. Never holds the value. */
export interface FieldViolation {
  /** Path, for example `options.ttl`. */
  readonly field: string;
  /** What was wrong, and what to do. */
  readonly description: string;
}

export interface FailureDetail {
  readonly violations?: readonly FieldViolation[];
  /** When to try again. */
  readonly retryAfter_ms?: number;
  /** Name of the limit that was reached, for LIMIT. */
  readonly limit?: string;
  /** For the audit entry and the log only, never for the caller: what exactly it was ("revoked", "other scope", ...). */
  readonly inner?: string;
  readonly cause?: unknown;
}

/** A refusal or fault with a reason. `message` goes to the caller: it never holds a PAN, a secret or a foreign text. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly reason: FailureReason;
  readonly violations: readonly FieldViolation[];
  readonly retryAfter_ms: number | undefined;
  readonly limit: string | undefined;
  readonly inner: string | undefined;

  constructor(reason: FailureReason, message: string, detail: FailureDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.reason = reason;
    this.violations = detail.violations ?? [];
    this.retryAfter_ms = detail.retryAfter_ms;
    this.limit = detail.limit;
    this.inner = detail.inner;
  }
}

/** INVALID_FIELD for one field. */
export function invalidField(field: string, description: string): Failure {
  return new Failure("INVALID_FIELD", `${field}: ${description}`, { violations: [{ field, description }] });
}

/**
 * The one answer for a token or code that this caller can't have: unknown, expired, revoked, used up, other scope, other
 * tenant. The same bytes for all of them; `inner` tells them apart in the audit log.
 */
export function notFound(inner: string): Failure {
  return new Failure("NOT_FOUND", "no such token or index code", { inner });
}

/** PostgreSQL is away, slow or refusing. */
export function storeUnavailable(cause: unknown, inner = "store"): Failure {
  return new Failure("STORE_UNAVAILABLE", "the store is not available; try again", { retryAfter_ms: 1000, cause, inner });
}
