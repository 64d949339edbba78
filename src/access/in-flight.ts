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

function full(limit: string): Failure {
  return new Failure("LIMIT", "too many calls under way; try again", { limit, retryAfter_ms: 100 });
}
