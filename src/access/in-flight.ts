import { Failure } from "../failure.js";

export interface InFlightLimits {
  readonly callsInFlight: number;
  readonly callsInFlightPerPrincipal: number;
}

/** Calls under way in this process, in all and by principal. */
export class InFlight {
  readonly #limits: InFlightLimits;
  readonly #byPrincipal = new Map<string, number>();
  #total = 0;

  constructor(limits: InFlightLimits) {
    this.#limits = limits;
  }

  /** Calls under way. */
  get total(): number {
    return this.#total;
  }

  /**
   * Takes a place. The answer gives it back; calling that twice gives one place back.
   * @throws Failure LIMIT
   */
  enter(principalId: string): () => void {
    const own = this.#byPrincipal.get(principalId) ?? 0;
    if (this.#total >= this.#limits.callsInFlight) throw full("callsInFlight");
    if (own >= this.#limits.callsInFlightPerPrincipal) throw full("callsInFlightPerPrincipal");
    this.#total += 1;
    this.#byPrincipal.set(principalId, own + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      this.#total -= 1;
      const left = (this.#byPrincipal.get(principalId) ?? 1) - 1;
      if (left === 0) this.#byPrincipal.delete(principalId);
      else this.#byPrincipal.set(principalId, left);
    };
  }
}

/**
 * Items of batches under way in this process, by principal: a call may be a thousand times the work of another. One batch always goes,
 * however large; what is too large for that has been refused before.
 */
export class ItemsInFlight {
  readonly #items_max: number;
  readonly #byPrincipal = new Map<string, number>();

  constructor(limits: { readonly itemsInFlightPerPrincipal: number }) {
    this.#items_max = limits.itemsInFlightPerPrincipal;
  }

  /**
   * Does a batch's work while its items are counted.
   * @throws Failure LIMIT, before anything is done; what `work` throws
   */
  async during<T>(principalId: string, items: number, work: () => Promise<T>): Promise<T> {
    const own = this.#byPrincipal.get(principalId) ?? 0;
    if (own > 0 && own + items > this.#items_max) throw full("itemsInFlightPerPrincipal", "items");
    this.#byPrincipal.set(principalId, own + items);
    try {
      return await work();
    } finally {
      const left = (this.#byPrincipal.get(principalId) ?? items) - items;
      if (left === 0) this.#byPrincipal.delete(principalId);
      else this.#byPrincipal.set(principalId, left);
    }
  }
}

function full(limit: string, what = "calls"): Failure {
  return new Failure("LIMIT", `too many ${what} under way; try again`, { limit, retryAfter_ms: 100 });
}
