import { LRUCache } from "lru-cache";
import type { Principal } from "../call.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";
import { joinedKey } from "./joined-key.js";

/** Length of a window, milliseconds: the limit is by the hour. */
const window_ms = 3_600_000;

export interface GuessLimits {
  readonly tokenizationsPerMaskedPan: number;
  readonly maskedPansWatched: number;
}

interface Window {
  count: number;
  readonly end_ms: number;
}

/**
 * Limits the tokenizations by one principal that share BIN and last four: "was the card known", a reused token or an index code
 * would confirm a guess of the digits between. A window starts with its first tokenization. Only `maskedPansWatched` windows are
 * kept; beyond that the one longest unused is forgotten.
 */
export class GuessLimit {
  readonly #limit: number;
  readonly #onAlert: (principal: Principal) => void;
  readonly #monotonic_ms: () => number;
  readonly #windows: LRUCache<string, Window>;

  /**
   * @param onAlert told once a window of a principal that reached the limit
   * @param monotonic_ms the clock; another one in tests
   */
  constructor(limits: GuessLimits, onAlert: (principal: Principal) => void, monotonic_ms: () => number = clock.monotonic_ms) {
    this.#limit = limits.tokenizationsPerMaskedPan;
    this.#onAlert = onAlert;
    this.#monotonic_ms = monotonic_ms;
    this.#windows = new LRUCache({ max: limits.maskedPansWatched });
  }

  /**
   * Counts one tokenization, before it is known what comes of it.
   * @param masked BIN and last four, in one form for all callers
   * @throws Failure LIMIT once the window's tokenizations are spent, with the time to its end
   */
  take(principal: Principal, masked: string): void {
    const now_ms = this.#monotonic_ms();
    const key = joinedKey(principal.id, masked);
    let window = this.#windows.get(key);
    if (window === undefined || window.end_ms <= now_ms) {
      window = { count: 0, end_ms: now_ms + window_ms };
      this.#windows.set(key, window);
    }
    window.count += 1;
    if (window.count <= this.#limit) return;
    if (window.count === this.#limit + 1) this.#onAlert(principal);
    throw new Failure("LIMIT", "too many tokenizations of cards that share BIN and last four", {
      limit: "tokenizationsPerMaskedPan",
      retryAfter_ms: Math.ceil(window.end_ms - now_ms),
    });
  }
}
