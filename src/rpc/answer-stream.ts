import { once } from "node:events";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { Failure } from "../failure.js";
import type { Arrival } from "./arrival.js";
import { toFailure } from "./status.js";

/** How often a stream's caller is judged again, milliseconds. */
const judge_ms = 1000;

export interface StreamSteps<T> {
  readonly encode: (message: T) => Uint8Array;
  /** Commits the entry; the first message leaves after it, or the end of an empty stream. */
  readonly beforeFirst: () => Promise<void>;
}

/**
 * Sends what a handler yields, pulling only as fast as the caller takes it. Ends with what the call was given up for, and lets go of
 * the handler's resources in any case.
 * @throws what the handler throws; Failure CANCELLED, DEADLINE, DENIED, ... if the call was given up
 */
export async function answerStream<T>(
  arrival: Arrival,
  stream: ServerWritableStream<Buffer, Uint8Array>,
  messages: AsyncIterable<T>,
  steps: StreamSteps<T>,
): Promise<void> {
  const stopJudging = judgeAgain(arrival);
  const iterator = messages[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (let first = true; ; first = false) {
      const next = await unlessGivenUp(arrival, iterator.next());
      ended = next.done === true;
      if (first) await steps.beforeFirst();
      if (!arrival.open) throw arrival.aborted ?? new Failure("CANCELLED", "the caller went away");
      if (next.done === true) break;
      if (!stream.write(steps.encode(next.value))) await unlessGivenUp(arrival, once(stream, "drain", { signal: arrival.call.signal }));
    }
    stream.end();
  } finally {
    stopJudging();
    if (!ended) letGo(iterator);
  }
}

/** Decides access again every second for as long as a call lasts, and gives the call up when it is refused. Answers how to stop. */
export function judgeAgain(arrival: Arrival): () => void {
  const timer = setInterval(() => {
    try {
      arrival.call.decideOnceMore();
    } catch (error) {
      arrival.giveUp(toFailure(error));
    }
  }, judge_ms);
  return () => clearInterval(timer);
}

/** Waits, but no longer than the call lasts. What comes later is nobody's. */
async function unlessGivenUp<T>(arrival: Arrival, work: Promise<T>): Promise<T> {
  const { signal } = arrival.call;
  let stop = (): void => {};
  const givenUp = new Promise<never>((_resolve, reject) => {
    stop = () => reject(arrival.aborted ?? new Failure("CANCELLED", "the caller went away"));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, givenUp]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Tells the handler that nobody takes more; it may still be at work on a message, so it is not waited for. */
function letGo(iterator: AsyncIterator<unknown>): void {
  iterator.return?.().catch(() => {
    // The call has failed already, with what is audited; this is only its echo.
  });
}
