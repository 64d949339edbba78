import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { type ItemError, Reason } from "../../gen/cardex/v1/reason_pb.js";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, QuotaFailureSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { duration_ms } from "./time.js";

/** One field of the request that was wrong. Never holds the value. */
export interface Violation {
  /** Path, for example `options.ttl`. */
  readonly field: string;
  readonly description: string;
}

/** What a server may tell besides code and message. */
export interface CardexErrorDetail {
  readonly violations?: readonly Violation[];
  readonly retryAfter_ms?: number | undefined;
  readonly limit?: string | undefined;
  readonly cause?: unknown;
}

/** A call, or one item of a batch, that did not succeed. Switch on `reason`; fall back on `code` for reasons you don't know. */
export class CardexError extends Error {
  override readonly name = "CardexError";
  /** gRPC status code, as in `google.rpc.Code`. */
  readonly code: number;
  /**
   * A name of `cardex.v1.Reason` without its prefix, for example `NOT_FOUND`. Where no Cardex server answered (no connection,
   * deadline passed here), the name of the gRPC code, for example `UNAVAILABLE`.
   */
  readonly reason: string;
  /** The fields that were wrong, for INVALID_FIELD. */
  readonly violations: readonly Violation[];
  /** When to try again, milliseconds from now, where the server said so. */
  readonly retryAfter_ms: number | undefined;
  /** Name of the limit, for LIMIT. */
  readonly limit: string | undefined;

  constructor(code: number, reason: string, message: string, detail: CardexErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.reason = reason;
    this.violations = detail.violations ?? [];
    this.retryAfter_ms = detail.retryAfter_ms;
    this.limit = detail.limit;
  }

  /** Name of the gRPC code, for example `NOT_FOUND`. */
  get codeName(): string {
    return status[this.code] ?? "UNKNOWN";
  }
}

/** The error of one item of a batch. */
export function itemFailure(item: ItemError): CardexError {
  return new CardexError(item.code, Reason[item.reason] ?? status[item.code] ?? "UNKNOWN", item.message, {
    violations: item.fieldViolations.map(({ field, description }) => ({ field, description })),
    retryAfter_ms: item.retryDelay === undefined ? undefined : duration_ms(item.retryDelay),
  });
}

/** The error of a call, with the details that the server sent in `grpc-status-details-bin` (google.rpc.Status). */
export function callFailure(error: unknown): CardexError {
  if (error instanceof CardexError) return error;
  if (!isServiceError(error)) return new CardexError(status.UNKNOWN, "UNKNOWN", "the call failed in the client", { cause: error });
  const { reason, ...detail } = readDetails(error.metadata);
  return new CardexError(error.code, reason ?? status[error.code] ?? "UNKNOWN", error.details, { ...detail, cause: error });
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === "number" && "metadata" in error;
}

/** Details that can't be decoded are left out: the code still tells what happened, and the whole answer is the error's cause. */
function readDetails(metadata: Metadata): CardexErrorDetail & { readonly reason?: string } {
  const encoded = metadata.get("grpc-status-details-bin")[0];
  if (!(encoded instanceof Buffer)) return {};
  const found: { reason?: string; violations?: Violation[]; retryAfter_ms?: number; limit?: string } = {};
  try {
    for (const any of fromBinary(StatusSchema, encoded).details) {
      const info = anyUnpack(any, ErrorInfoSchema);
      if (info?.domain === "cardex") found.reason = info.reason;
      const fields = anyUnpack(any, BadRequestSchema)?.fieldViolations;
      if (fields !== undefined) found.violations = fields.map(({ field, description }) => ({ field, description }));
      const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
      if (delay !== undefined) found.retryAfter_ms = duration_ms(delay);
      const subject = anyUnpack(any, QuotaFailureSchema)?.violations[0]?.subject;
      if (subject !== undefined) found.limit = subject;
      const precondition = anyUnpack(any, PreconditionFailureSchema)?.violations;
      if (precondition !== undefined) found.violations = precondition.map(({ subject: field, description }) => ({ field, description }));
    }
  } catch {
    return found;
  }
  return found;
}
