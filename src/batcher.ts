import { Failure } from "./failure.js";

/** What came of one item: its own value or its own failure. */
export type Settled<O> = { readonly ok: true; readonly value: O } | { readonly ok: false; readonly error: unknown };

export interface BatcherLimits {
  /** Name of the limit, for messages and metrics. */
  readonly name: string;
  /** Items in one batch, at most. */
  readonly batchSize_max: number;
  /** Items waiting, at most; one more is refused at once. */
  readonly queue_max: number;
  /** Batches under way at once. */
  readonly inFlight_max: number;
}

interface Waiting<I, O> {
  readonly input: I;
  readonly resolve: (value: O) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Natural batching: a batch leaves as soon as one before it returns, and takes all that waits by then. No timers. An item's
 * failure is its own; only a failure of `run` itself is everybody's.
 */
export class Batcher<I, O> {
  readonly #run: (inputs: readonly I[]) => Promise<readonly Settled<O>[]>;
  readonly #limits: BatcherLimits;
  #waiting: Waiting<I, O>[] = [];
  #inFlight = 0;
  #scheduled = false;

  constructor(limits: BatcherLimits, run: (inputs: readonly I[]) => Promise<readonly Settled<O>[]>) {
    this.#limits = limits;
    this.#run = run;
  }

  /** Items waiting for a batch. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** @throws Failure LIMIT if the queue is full. */
  submit(input: I): Promise<O> {
    if (this.#waiting.length >= this.#limits.queue_max) {
      return Promise.reject(
        new Failure("LIMIT", "too much work waiting; try again", { limit: this.#limits.name, retryAfter_ms: 100 }),
      );
    }
    return new Promise<O>((resolve, reject) => {
      this.#waiting.push({ input, resolve, reject });
      this.#schedule();
    });
  }

  /** Lets everything that arrives in the same turn of the event loop join one batch. */
  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#limits.inFlight_max) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#leave();
    });
  }

  #leave(): void {
    while (this.#waiting.length > 0 && this.#inFlight < this.#limits.inFlight_max) {
      const batch = this.#waiting.splice(0, this.#limits.batchSize_max);
      this.#inFlight += 1;
      void this.#settle(batch).finally(() => {
        this.#inFlight -= 1;
        this.#leave();
      });
    }
  }

  async #settle(batch: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const results = await this.#run(batch.map((each) => each.input));
      if (results.length !== batch.length) throw new Error(`${this.#limits.name}: ${results.length} results for ${batch.length} items`);
      for (const [i, each] of batch.entries()) {
        const result = results[i];
        if (result?.ok === true) each.resolve(result.value);
        else each.reject(result?.error);
      }
    } catch (error) {
      for (const each of batch) each.reject(error);
    }
  }
}
