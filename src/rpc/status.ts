import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, type Any, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata, status as GrpcCode } from "@grpc/grpc-js";
import { type ItemErrorSchema, Reason } from "../../gen/cardex/v1/reason_pb.js";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, QuotaFailureSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { HsmError } from "../../hsm/hsm.js";
import { Failure, type FailureReason, notFound } from "../failure.js";

/** ErrorInfo.domain of every error. */
export const errorDomain = "cardex";

/** A status as grpc-js sends it. */
export interface EdgeStatus {
  readonly code: GrpcCode;
  readonly details: string;
  readonly metadata: Metadata;
}

const codes: Readonly<Record<FailureReason, GrpcCode>> = {
  INVALID_FIELD: GrpcCode.INVALID_ARGUMENT,
  MALFORMED_MESSAGE: GrpcCode.INVALID_ARGUMENT,
  MESSAGE_TOO_LARGE: GrpcCode.RESOURCE_EXHAUSTED,
  UNKNOWN_PRINCIPAL: GrpcCode.UNAUTHENTICATED,
  DENIED: GrpcCode.PERMISSION_DENIED,
  NOT_FOUND: GrpcCode.NOT_FOUND,
  REQUEST_ID_REUSED: GrpcCode.ALREADY_EXISTS,
  CARD_STATUS: GrpcCode.FAILED_PRECONDITION,
  STATUS_TRANSITION: GrpcCode.FAILED_PRECONDITION,
  VERSION_MISMATCH: GrpcCode.ABORTED,
  KEY_STATE: GrpcCode.FAILED_PRECONDITION,
  LIMIT: GrpcCode.RESOURCE_EXHAUSTED,
  HSM_UNAVAILABLE: GrpcCode.UNAVAILABLE,
  STORE_UNAVAILABLE: GrpcCode.UNAVAILABLE,
  STOPPING: GrpcCode.UNAVAILABLE,
  INTEGRITY: GrpcCode.DATA_LOSS,
  DEADLINE: GrpcCode.DEADLINE_EXCEEDED,
  CANCELLED: GrpcCode.CANCELLED,
  UNKNOWN_METHOD: GrpcCode.UNIMPLEMENTED,
  INTERNAL: GrpcCode.INTERNAL,
};

/** Which of these say when to try again although nobody gave a time, and after how many milliseconds. */
const retryDefault_ms: Readonly<Partial<Record<FailureReason, number>>> = { LIMIT: 1000, HSM_UNAVAILABLE: 1000, STORE_UNAVAILABLE: 1000, STOPPING: 100 };

/** What a state that forbids the call is of, for PreconditionFailure. */
const preconditionSubjects: Readonly<Partial<Record<FailureReason, string>>> = { CARD_STATUS: "card", STATUS_TRANSITION: "card", KEY_STATE: "key" };

/** The failure that an error is to the caller. What is neither a Failure nor an HsmError is INTERNAL, with the error as its cause. */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof HsmError) return hsmFailure(error);
  return new Failure("INTERNAL", "internal error", { cause: error });
}

function hsmFailure(error: HsmError): Failure {
  const inner = `hsm ${error.errorClass}`;
  switch (error.errorClass) {
    case "integrity":
      return new Failure("INTEGRITY", "what is stored does not verify", { cause: error, inner });
    case "key":
      return new Failure("INTEGRITY", "a key does not verify; operators were alerted", { cause: error, inner });
    case "operation":
      return new Failure("INTERNAL", "internal error", { cause: error, inner });
    case "session":
    case "device":
    case "login":
    case "timeout":
      return new Failure("HSM_UNAVAILABLE", "the HSM is not available; try again", { cause: error, inner, retryAfter_ms: 1000 });
  }
}

/** The failure as grpc-js sends it: code, text, and google.rpc.Status in `grpc-status-details-bin`. */
export function toStatus(failure: Failure): EdgeStatus {
  const { code, message, retryAfter_ms } = presented(failure);
  const details: Any[] = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason: failure.reason, domain: errorDomain }))];
  if (failure.reason === "INVALID_FIELD") {
    const fieldViolations = failure.violations.map(({ field, description }) => ({ field, description }));
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })));
  }
  const subject = preconditionSubjects[failure.reason];
  if (subject !== undefined) {
    details.push(anyPack(PreconditionFailureSchema, create(PreconditionFailureSchema, { violations: [{ type: failure.reason, subject, description: message }] })));
  }
  if (failure.reason === "LIMIT") {
    details.push(anyPack(QuotaFailureSchema, create(QuotaFailureSchema, { violations: [{ subject: failure.limit ?? "limit", description: message }] })));
  }
  if (retryAfter_ms !== undefined) {
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryAfter_ms) })));
  }
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  return { code, details: message, metadata };
}

/** The same failure as the answer to one item of a batch. */
export function toItemError(error: unknown): MessageInitShape<typeof ItemErrorSchema> {
  const failure = toFailure(error);
  const { code, message, retryAfter_ms } = presented(failure);
  return {
    code,
    reason: Reason[failure.reason],
    message,
    fieldViolations: failure.reason === "INVALID_FIELD" ? failure.violations.map(({ field, description }) => ({ field, description })) : [],
    ...(retryAfter_ms === undefined ? {} : { retryDelay: durationFromMs(retryAfter_ms) }),
  };
}

/** NOT_FOUND and INTERNAL say the same whatever stood in them: the one must not be an oracle, the other not a leak. */
function presented(failure: Failure): { code: GrpcCode; message: string; retryAfter_ms: number | undefined } {
  const code = codes[failure.reason];
  if (failure.reason === "NOT_FOUND") return { code, message: notFound("").message, retryAfter_ms: undefined };
  if (failure.reason === "INTERNAL") return { code, message: "internal error", retryAfter_ms: undefined };
  return { code, message: failure.message, retryAfter_ms: failure.retryAfter_ms ?? retryDefault_ms[failure.reason] };
}
