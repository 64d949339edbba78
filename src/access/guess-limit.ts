import { createHash } from "node:crypto";
import type { Principal } from "../call.js";
import { clock } from "../clock.js";
import { Failure } from "../failure.js";

/** Length of a principal's window, milliseconds: the limit is by the hour. */
const window_ms = 3_600_000;

/**
 * Counters of one principal, 2 bytes each: 2 MiB. Two masked PANs may share one, which makes the limit stricter and never wider. A million
 * different ones are about one a counter, and hardly ever more than ten: far from the limit.
 */
const counters = 2 ** 20;

export interface GuessLimits {
  /** At most 65,534. */
  readonly tokenizationsPerMaskedPan: number;
  readonly principalsWatched: number;
}

/** "suspected": half of a limit was used; "reached": all of it. */
export type GuessAlert = "suspected" | "reached";

/** What one principal has tokenized since its window began. Nothing is forgotten before it ends. */
interface Window {
  readonly counts: Uint16Array;
  readonly end_ms: number;
  readonly told: Set<GuessAlert>;
}

/**
 * Limits the tokenizations by one principal that share BIN and last four: "was the card known", a reused token or an index code
 * would confirm a guess of the digits between. A principal's window starts with its first tokenization and lasts an hour; counts are kept
 * to its end, in memory of a fixed size, so that nobody gets rid of them by tokenizing much else. At most `principalsWatched`
 * windows are open; one more principal is refused until one has ended.
 */
export class GuessLimit {
  readonly #limits: GuessLimits;
  readonly #onAlert: (principal: Principal, alert: GuessAlert) => void;
  readonly #monotonic_ms: () => number;
  /** In the order in which they end. */
  readonly #windows = new Map<string, Window>();

  /**
   * @param onAlert told of each alert once in a window
   * @param monotonic_ms the clock; another one in tests
   */
  constructor(limits: GuessLimits, onAlert: (principal: Principal, alert: GuessAlert) => void, monotonic_ms: () => number = clock.monotonic_ms) {
    this.#limits = limits;
    this.#onAlert = onAlert;
    this.#monotonic_ms = monotonic_ms;
  }

  /**
   * Counts one tokenization, before it is known what comes of it.
   * @param masked BIN and last four, in one form for all callers
   * @throws Failure LIMIT once the window's tokenizations are spent, with the time to its end
   */
  take(principal: Principal, masked: string): void {
    const now_ms = this.#monotonic_ms();
    const window = this.#windowOf(principal, now_ms);
    const at = createHash("sha256").update(masked).digest().readUInt32LE() % counters;
    const limit = this.#limits.tokenizationsPerMaskedPan;
    // Stops one beyond the limit, so that it never wraps.
    const count = Math.min((window.counts[at] ?? 0) + 1, limit + 1);
    window.counts[at] = count;
    if (count * 2 >= limit) this.#tell(window, principal, "suspected");
    if (count <= limit) return;
    this.#tell(window, principal, "reached");
    throw full("too many tokenizations of cards that share BIN and last four", "tokenizationsPerMaskedPan", window.end_ms - now_ms);
  }

  #windowOf(principal: Principal, now_ms: number): Window {
    const open = this.#windows.get(principal.id);
    if (open !== undefined && open.end_ms > now_ms) return open;
    for (const [id, { end_ms }] of this.#windows) {
      if (end_ms > now_ms) break;
      this.#windows.delete(id);
    }
    const [oldest] = this.#windows.values();
    if (oldest !== undefined && this.#windows.size >= this.#limits.principalsWatched) {
      throw full("too many principals tokenize in this hour", "principalsWatched", oldest.end_ms - now_ms);
    }
    const window = { counts: new Uint16Array(counters), end_ms: now_ms + window_ms, told: new Set<GuessAlert>() };
    this.#windows.set(principal.id, window);
    return window;
  }

  #tell(window: Window, principal: Principal, alert: GuessAlert): void {
    if (window.told.has(alert)) return;
    window.told.add(alert);
    this.#onAlert(principal, alert);
  }
}

function full(message: string, limit: string, left_ms: number): Failure {
  return new Failure("LIMIT", message, { limit, retryAfter_ms: Math.ceil(left_ms) });
}
