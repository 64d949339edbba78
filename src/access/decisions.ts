import { LRUCache } from "lru-cache";
import { joinedKey } from "./joined-key.js";

/** One question to the policy. */
export interface Question {
  /** SPIFFE ID. */
  readonly subject: string;
  readonly tenant: string;
  /** Service name without its package, "scope" or "view". */
  readonly object: string;
  /** RPC, scope, or what is seen of a card. */
  readonly action: string;
  /** Purpose name without its prefix, or `noPurpose`. */
  readonly purpose: string;
}

/**
 * Decisions of one version of the policy. A new version gets a new one, so that no decision outlives the rules it came from.
 * Bounded: beyond `decisions_max` the one longest unused is forgotten.
 */
export class Decisions {
  readonly #decide: (question: Question) => boolean;
  readonly #kept: LRUCache<string, boolean>;

  constructor(decisions_max: number, decide: (question: Question) => boolean) {
    this.#decide = decide;
    this.#kept = new LRUCache({ max: decisions_max });
  }

  /** The decision, kept or made now. What `decide` throws is thrown, and nothing kept. */
  ask(question: Question): boolean {
    const key = joinedKey(question.subject, question.tenant, question.object, question.action, question.purpose);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const decision = this.#decide(question);
    this.#kept.set(key, decision);
    return decision;
  }
}
