import { clone, create, type DescMethodServerStreaming, type DescMethodUnary, fromBinary, type Message, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type CallOptions as GrpcCallOptions, Metadata, status } from "@grpc/grpc-js";
import { setTimeout as sleep } from "node:timers/promises";
import { clock } from "../clock.js";
import type { Channels } from "./channels.js";
import { CardexError, callFailure } from "./error.js";
import { fillRequestIds, isRepeatable } from "./request-id.js";
import { type RetryPolicy, retryDelay_ms } from "./retry.js";

/** What a caller may say of one call. */
export interface CallOptions {
  /** Time for the call with all its attempts, in milliseconds. Default: the client's; for streams none. */
  readonly deadline_ms?: number;
  /** Ends the call when it aborts. */
  readonly signal?: AbortSignal | undefined;
  /** How the call is repeated. Default: the client's. */
  readonly retries?: RetryPolicy;
}

/** Defaults of a client's calls. */
export interface CallDefaults {
  readonly deadline_ms: number;
  readonly retries: RetryPolicy;
}

/**
 * One unary call: request_id filled in, repeated where that is safe, all within the deadline.
 * @throws CardexError
 */
export async function invokeUnary<M extends DescMethodUnary>(
  channels: Channels,
  method: M,
  init: MessageInitShape<M["input"]>,
  defaults: CallDefaults,
  options: CallOptions = {},
): Promise<MessageShape<M["output"]>> {
  // A copy: the caller's message is neither changed nor read again for a repeat.
  const message: Message = clone(method.input, create(method.input, init as never));
  fillRequestIds(method.input, message);
  const request = toBinary(method.input, message);
  const policy = options.retries ?? defaults.retries;
  const end_ms = clock.monotonic_ms() + (options.deadline_ms ?? defaults.deadline_ms);
  for (let attempt = 1; ; attempt += 1) {
    const left_ms = end_ms - clock.monotonic_ms();
    try {
      return fromBinary(method.output, await attemptUnary(channels, method, request, left_ms, options.signal)) as MessageShape<M["output"]>;
    } catch (error) {
      const failure = callFailure(error);
      const delay_ms = isRepeatable(method) ? retryDelay_ms(failure, attempt, end_ms - clock.monotonic_ms(), policy) : undefined;
      if (delay_ms === undefined || options.signal?.aborted === true) throw failure;
      await pause(delay_ms, options.signal, failure);
    }
  }
}

/**
 * One server-streaming call, pulled by the caller: what is not taken is not sent. Leaving the loop ends the call. Never
 * repeated: the caller knows where to go on.
 * @throws CardexError
 */
export async function* invokeServerStream<M extends DescMethodServerStreaming>(
  channels: Channels,
  method: M,
  init: MessageInitShape<M["input"]>,
  options: CallOptions = {},
): AsyncGenerator<MessageShape<M["output"]>, void, undefined> {
  const message: Message = create(method.input, init as never);
  if (options.signal?.aborted === true) throw cancelled();
  const call = channels
    .next()
    .makeServerStreamRequest(pathOf(method), asBuffer, received, toBinary(method.input, message), new Metadata(), grpcOptions(options.deadline_ms));
  const cancel = (): void => call.cancel();
  options.signal?.addEventListener("abort", cancel, { once: true });
  try {
    for await (const bytes of call as AsyncIterable<Uint8Array>) yield fromBinary(method.output, bytes) as MessageShape<M["output"]>;
  } catch (error) {
    throw callFailure(error);
  } finally {
    options.signal?.removeEventListener("abort", cancel);
    call.cancel();
  }
}

function attemptUnary(channels: Channels, method: DescMethodUnary, request: Uint8Array, left_ms: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(cancelled());
      return;
    }
    const cancel = (): void => call.cancel();
    const call = channels
      .next()
      .makeUnaryRequest(pathOf(method), asBuffer, received, request, new Metadata(), grpcOptions(left_ms), (error, answer) => {
        signal?.removeEventListener("abort", cancel);
        if (error !== null) reject(error);
        else if (answer === undefined) reject(new CardexError(status.INTERNAL, "INTERNAL", "the answer holds no message"));
        else resolve(answer);
      });
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

function pathOf(method: DescMethodUnary | DescMethodServerStreaming): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function received(bytes: Buffer): Uint8Array {
  return bytes;
}

function grpcOptions(deadline_ms: number | undefined): GrpcCallOptions {
  return deadline_ms === undefined ? {} : { deadline: clock.now_ms() + deadline_ms };
}

async function pause(delay_ms: number, signal: AbortSignal | undefined, failure: CardexError): Promise<void> {
  try {
    await sleep(delay_ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw new CardexError(status.CANCELLED, "CANCELLED", "the call was cancelled while it waited to be repeated", { cause: new AggregateError([error, failure]) });
  }
}

function cancelled(): CardexError {
  return new CardexError(status.CANCELLED, "CANCELLED", "the call was cancelled");
}
