import type { Outcome } from "../call.js";
import { Failure, type FailureReason, storeUnavailable } from "../failure.js";
import type { Arrival } from "./arrival.js";
import type { Edge } from "./edge.js";
import { toFailure } from "./status.js";

/** Reasons that are told as something else than "failed". */
const outcomes: Readonly<Partial<Record<FailureReason, Outcome>>> = {
  DENIED: "denied",
  UNKNOWN_PRINCIPAL: "denied",
  INVALID_FIELD: "malformed",
  MALFORMED_MESSAGE: "malformed",
  MESSAGE_TOO_LARGE: "malformed",
  UNKNOWN_METHOD: "malformed",
};

/** How the audit entry of a call that failed for this reason says it. */
export function outcomeOf(reason: FailureReason): Outcome {
  return outcomes[reason] ?? "failed";
}

/**
 * Commits the entry of a call that succeeded and has none yet.
 * @throws Failure DENIED or UNKNOWN_PRINCIPAL if the policy changed meanwhile; LIMIT if too many entries wait; else STORE_UNAVAILABLE,
 * whatever went wrong: without an entry there is no answer
 */
export async function recordDone(edge: Edge, { call }: Arrival): Promise<void> {
  if (call.audited) return;
  try {
    await edge.journal.record(call, "done");
  } catch (error) {
    if (error instanceof Failure && (error.reason === "DENIED" || error.reason === "UNKNOWN_PRINCIPAL" || error.reason === "LIMIT")) throw error;
    throw storeUnavailable(error, "audit");
  }
}

/** Audits, logs and answers a call that failed. Never rejects. */
export async function refuse(edge: Edge, arrival: Arrival, error: unknown): Promise<void> {
  const failure = whatFailed(arrival, error);
  const { call } = arrival;
  report(edge, arrival, failure);
  // audit/ writes the entry as soon as it is known what became of the call; another one might contradict it.
  if (call.unsettled && !call.audited) return arrival.answer(failure);
  if (call.audited) {
    withholdReleased(edge, arrival);
    arrival.answer(failure);
    return;
  }
  if (failure.reason === "LIMIT" || (failure.reason === "STOPPING" && !arrival.dispatched)) {
    refuseInSum(edge, arrival, failure);
    return;
  }
  // What a transaction that was not committed had said of them did not happen.
  call.resources = call.resources.map(({ token, indexCode, card }) => ({
    ...(token === undefined ? {} : { token }),
    ...(indexCode === undefined ? {} : { indexCode }),
    ...(card === undefined ? {} : { card }),
  }));
  try {
    await edge.journal.record(call, outcomeOf(failure.reason), failure);
    arrival.answer(failure);
  } catch (cause) {
    // Too many entries wait: without room for one of its own, the call is still counted.
    if (cause instanceof Failure && cause.reason === "LIMIT") {
      refuseInSum(edge, arrival, cause);
      return;
    }
    edge.log.error({ call: call.id, rpc: call.rpc, reason: failure.reason, err: cause }, "call could not be audited");
    arrival.answer(storeUnavailable(cause, "audit"));
  }
}

/** Answers, and counts into a sum: an entry for each of them would be work that grows with the overload. */
function refuseInSum(edge: Edge, arrival: Arrival, failure: Failure): void {
  const { principal, address } = arrival.call;
  edge.journal.refused({ log: principal.tenant, what: failure.limit ?? failure.reason.toLowerCase(), address, principal: principal.id });
  arrival.answer(failure);
}

/** An entry says that a PAN was released, and the answer that held it is known not to have left: another entry says so. */
export function withholdReleased(edge: Edge, { call }: Arrival): void {
  if (call.audited && call.resources.some((resource) => resource.outcome === "released")) edge.journal.withheld(call);
}

/** A handler that was stopped throws all kinds of things; why it was stopped is what counts then. */
function whatFailed(arrival: Arrival, error: unknown): Failure {
  return error instanceof Failure ? error : (arrival.aborted ?? toFailure(error));
}

function report(edge: Edge, { call }: Arrival, failure: Failure): void {
  const line = { call: call.id, rpc: call.rpc, reason: failure.reason, ...(failure.cause === undefined ? {} : { err: failure.cause }) };
  if (failure.reason === "INTEGRITY") edge.alert("integrity", { call: call.id, rpc: call.rpc }, failure.cause ?? failure);
  else if (failure.reason === "INTERNAL") edge.log.error({ ...line, err: failure.cause ?? failure }, "call failed");
  else if (failure.cause !== undefined) edge.log.warn(line, "call failed");
}
