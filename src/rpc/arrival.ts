import { Metadata, type ServerInterceptingCallInterface, status as GrpcCode } from "@grpc/grpc-js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import type { Edge } from "./edge.js";
import { EdgeCall } from "./edge-call.js";
import { hasEnded, resetStream } from "./grpc-internals.js";
import type { Peer } from "./peer.js";
import { type EdgeStatus, toStatus } from "./status.js";

/** A status as grpc-js hands it over. */
type GrpcStatus = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0];

/** How long a caller may leave an answer untaken after the deadline, milliseconds; then the stream is reset. */
const untaken_ms = 1000;

/** What an arrival tells of. */
export interface ArrivalListener {
  /** The call is over before a handler had it: what grpc-js answers by itself, deadline, hang-up, stop. Answer it; never reject. */
  readonly onEarlyEnd: (arrival: Arrival, failure: Failure) => Promise<void>;
  /** Stream closed and handler settled: nothing of this call is left. */
  readonly onGone: (arrival: Arrival) => void;
}

/**
 * One call from its headers to the end of its stream, whatever becomes of it: the only place that sends a status. It stands
 * between grpc-js and its own answers, so that none of them goes out unaudited.
 */
export class Arrival {
  readonly call: EdgeCall;
  readonly #base: ServerInterceptingCallInterface;
  readonly #sendStatus: (status: GrpcStatus) => void;
  readonly #listener: ArrivalListener;
  readonly #edge: Edge;
  readonly #abort = new AbortController();
  readonly #start_ms = clock.monotonic_ms();
  #timer: NodeJS.Timeout;
  #phase: "waiting" | "dispatched" | "adopted" = "waiting";
  #answered = false;
  #closed = false;
  #settled = true;

  /** @param deadline_ms time that the call gets at most */
  constructor(edge: Edge, base: ServerInterceptingCallInterface, peer: Peer, rpc: string, deadline_ms: number, listener: ArrivalListener) {
    this.#edge = edge;
    this.#base = base;
    this.#listener = listener;
    this.#sendStatus = base.sendStatus.bind(base);
    this.call = new EdgeCall(edge, peer, rpc, this.#abort.signal);
    // grpc-js sends its own answers by this method of this object.
    base.sendStatus = (status) => this.#intercept(status);
    this.#timer = setTimeout(() => this.#expire(), deadline_ms);
  }

  /** Whether an answer can still leave. */
  get open(): boolean {
    return !this.#answered && !this.#closed && !hasEnded(this.#base);
  }

  /** Whether a handler has it, or had. */
  get dispatched(): boolean {
    return this.#phase !== "waiting";
  }

  /** Why the call was given up, if it was. */
  get aborted(): Failure | undefined {
    return this.#abort.signal.aborted ? (this.#abort.signal.reason as Failure) : undefined;
  }

  /** A handler takes the call over, unless it is over already; `work` never rejects. */
  dispatch(work: () => Promise<void>): void {
    if (this.aborted !== undefined) return;
    this.#phase = "dispatched";
    this.#until(work());
  }

  /** From here on, statuses come from a service that is not ours (health, reflection): they pass, without their texts. */
  adopt(): void {
    this.#phase = "adopted";
  }

  /**
   * Gives the call up. Where a handler has it, the answer goes out at once, and the handler, whose signal fires, is waited for before
   * anything is audited: until then it may still commit.
   */
  giveUp(failure: Failure): void {
    if (this.#answered || this.aborted !== undefined) return;
    this.#abort.abort(failure);
    if (this.#phase === "waiting") this.#until(this.#listener.onEarlyEnd(this, failure));
    else this.answer(failure);
  }

  /** Sends the failure, if an answer can still leave. */
  answer(failure: Failure): void {
    this.#send(toStatus(failure));
  }

  /** The caller's stream is closed. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    if (!this.#answered) {
      this.#edge.metrics.callEnded(this.call.rpc, "CANCELLED", this.#elapsed_s());
      this.giveUp(callerGone());
    }
    this.#leave();
  }

  #intercept(status: GrpcStatus): void {
    if (status.code === GrpcCode.OK) this.#send({ code: status.code, details: "OK", metadata: status.metadata ?? new Metadata() });
    else if (this.#phase === "adopted") this.#send({ code: status.code, details: GrpcCode[status.code], metadata: new Metadata() });
    else if (hasEnded(this.#base)) this.giveUp(callerGone());
    else this.giveUp(foreignAnswer(status, this.#phase === "waiting"));
  }

  #send(status: EdgeStatus): void {
    if (!this.open) return;
    this.#answered = true;
    this.#edge.metrics.callEnded(this.call.rpc, GrpcCode[status.code], this.#elapsed_s());
    this.#sendStatus({ code: status.code, details: status.details, metadata: status.metadata });
  }

  #expire(): void {
    this.giveUp(new Failure("DEADLINE", "the deadline passed"));
    this.#timer = setTimeout(() => resetStream(this.#base), untaken_ms);
  }

  #until(work: Promise<void>): void {
    this.#settled = false;
    void work.finally(() => {
      this.#settled = true;
      this.#leave();
    });
  }

  #leave(): void {
    if (this.#closed && this.#settled) this.#listener.onGone(this);
  }

  #elapsed_s(): number {
    return (clock.monotonic_ms() - this.#start_ms) / 1000;
  }
}

function callerGone(): Failure {
  return new Failure("CANCELLED", "the caller went away");
}

/** What an answer that grpc-js makes by itself means. Its texts may quote the caller and go nowhere. */
function foreignAnswer({ code }: GrpcStatus, early: boolean): Failure {
  if (code === GrpcCode.DEADLINE_EXCEEDED) return new Failure("DEADLINE", "the deadline passed");
  if (code === GrpcCode.RESOURCE_EXHAUSTED) return new Failure("MESSAGE_TOO_LARGE", "the message is larger than this server takes");
  if (code === GrpcCode.UNIMPLEMENTED) return new Failure("MALFORMED_MESSAGE", "not exactly one message, or one compressed in an unknown way");
  return early
    ? new Failure("MALFORMED_MESSAGE", "the headers or the message can't be read")
    : new Failure("INTERNAL", "internal error", { inner: "answer could not be sent" });
}
