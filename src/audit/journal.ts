import type { Call, Outcome } from "../call.js";
import type { Failure } from "../failure.js";

/** What the edge asks of the audit log. The implementation is `committed-writer.ts` and `sums.ts`, wired in main.ts. */
export interface Journal {
  /**
   * Commits the entry of a call that did no audited work of its own: reads, denials, malformed and failed calls. Sets
   * `call.audited`. Nothing may be answered before it returns.
   * @throws Failure STORE_UNAVAILABLE if it can't be committed; LIMIT if too much waits for a commit
   */
  record(call: Call, outcome: Outcome, failure?: Failure): Promise<void>;
  /** Notes that an answer whose entry says "released" is known not to have left. Never throws; retried in the background. */
  withheld(call: Call): void;
  /** Counts a refused handshake or a call over a limit; written as sums a second and source. Never blocks, never throws. */
  refused(refusal: Refusal): void;
  /** Notes an alert in the log "system". Never throws; retried in the background while the store is away. */
  notice(name: string, facts: Record<string, string | number>): void;
  /** Commits an entry of the installation itself (log "system"): start and stop. @throws Failure STORE_UNAVAILABLE */
  event(name: string, facts: Record<string, string | number>): Promise<void>;
}

/** One refusal; equal ones are summed. */
export interface Refusal {
  /** The tenant's log, where the caller is known; "system" otherwise. */
  readonly log: string;
  /** "handshake" or a limit's name. */
  readonly what: string;
  /** Remote IP address. */
  readonly address: string;
  /** SPIFFE ID, where it is known. */
  readonly principal?: string;
  /** For a handshake: OpenSSL's reason code, for example `CERT_HAS_EXPIRED`. */
  readonly reason?: string;
}
