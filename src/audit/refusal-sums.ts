import type { CommittedWriter } from "./committed-writer.js";
import { noticeDraft } from "./entry.js";
import type { Refusal } from "./journal.js";
import { noticeCall } from "./notice-call.js";

/**
 * Refused handshakes and calls over a limit, summed a second and source, so that a flood costs one entry a second and source and
 * at most `sources_max` of them; what is beyond that is one further sum without a source. Sums that can't be committed are kept
 * and added to.
 */
export class RefusalSums {
  readonly #writer: CommittedWriter;
  readonly #sources_max: number;
  readonly #onLost: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #sums = new Map<string, { refusal: Refusal; count: number }>();
  #flushing: Promise<void> | undefined;

  /** @param onLost told at the end of sums that the store did not take */
  constructor(writer: CommittedWriter, sources_max: number, onLost: (error: unknown) => void) {
    this.#writer = writer;
    this.#sources_max = sources_max;
    this.#onLost = onLost;
    this.#timer = setInterval(() => void this.flush(), 1000);
    this.#timer.unref();
  }

  /** Counts one. Never throws. */
  add(refusal: Refusal, count = 1): void {
    const key = JSON.stringify([refusal.log, refusal.what, refusal.address, refusal.principal ?? "", refusal.reason ?? ""]);
    const sum = this.#sums.get(key);
    if (sum !== undefined) sum.count += count;
    else if (this.#sums.size < this.#sources_max || refusal.address === "") this.#sums.set(key, { refusal, count });
    else this.add({ log: "system", what: refusal.what, address: "" }, count);
  }

  /** Writes what was counted, unless that is under way already. Never throws. */
  async flush(): Promise<void> {
    if (this.#flushing !== undefined || this.#sums.size === 0) return;
    this.#flushing = this.#write().finally(() => {
      this.#flushing = undefined;
    });
    await this.#flushing;
  }

  /** Writes what is left, as far as the store takes it: also what was counted while a flush was under way. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#flushing;
    await this.flush();
    const left = [...this.#sums.values()].reduce((total, { count }) => total + count, 0);
    if (left > 0) this.#onLost(new Error(`${left} refusals were not written before the end`));
  }

  async #write(): Promise<void> {
    const sums = [...this.#sums.values()];
    this.#sums = new Map();
    try {
      const drafts = sums.map(({ refusal, count }) =>
        noticeDraft(refusal.log, "refusals", {
          outcome: "refused",
          what: refusal.what,
          address: refusal.address,
          count,
          ...(refusal.principal === undefined ? {} : { principal: refusal.principal }),
          ...(refusal.reason === undefined ? {} : { reason: refusal.reason }),
        }),
      );
      await this.#writer.append(noticeCall, drafts, false);
    } catch {
      // The store is away, which others report. Nothing is lost: the counts join the next sums.
      for (const { refusal, count } of sums) this.add(refusal, count);
    }
  }
}
