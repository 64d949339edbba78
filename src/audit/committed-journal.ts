import type { Call, Outcome } from "../call.js";
import type { Failure } from "../failure.js";
import type { CommittedWriter } from "./committed-writer.js";
import { callDrafts, type EntryDraft, noticeDraft } from "./entry.js";
import type { Journal, Refusal } from "./journal.js";
import { noticeCall } from "./notice-call.js";
import type { RefusalSums } from "./refusal-sums.js";
import { withheldDraft } from "./writer-batch.js";

/** Notices kept while the store is away; more than calls can be in flight, so that none is lost before the process is. */
const pending_max = 10_000;
const retry_ms = 1000;

/**
 * The journal over two writers: entries that an answer waits for go with the reveals; what nobody waits for goes through the
 * notice writer, which never delays a reveal.
 */
export class CommittedJournal implements Journal {
  readonly #reveals: CommittedWriter;
  readonly #notices: CommittedWriter;
  readonly #sums: RefusalSums;
  readonly #onLost: (error: unknown) => void;
  readonly #timer: NodeJS.Timeout;
  #pending: EntryDraft[] = [];
  /** Those in the commit that is under way. */
  #underWay = 0;
  #flushing: Promise<void> | undefined;

  /** @param onLost told when a notice is not kept any longer: too many wait for the store */
  constructor(reveals: CommittedWriter, notices: CommittedWriter, sums: RefusalSums, onLost: (error: unknown) => void) {
    this.#reveals = reveals;
    this.#notices = notices;
    this.#sums = sums;
    this.#onLost = onLost;
    this.#timer = setInterval(() => this.#flush(), retry_ms);
    this.#timer.unref();
  }

  async record(call: Call, outcome: Outcome, failure?: Failure): Promise<void> {
    const drafts = callDrafts(call, { outcome, reason: failure?.inner ?? failure?.reason });
    await this.#reveals.append(call, drafts, outcome === "done" || outcome === "released");
  }

  withheld(call: Call): void {
    this.#keep(withheldDraft(call));
  }

  /** The entry of a call whose caller was told UNAVAILABLE before it was known that nothing of it was committed. */
  notDone(call: Call): void {
    for (const draft of callDrafts(call, { outcome: "failed", reason: "store" })) this.#keep(draft);
  }

  notice(name: string, facts: Record<string, string | number>): void {
    this.#keep(noticeDraft("system", name, facts));
  }

  refused(refusal: Refusal): void {
    this.#sums.add(refusal);
  }

  async event(name: string, facts: Record<string, string | number>): Promise<void> {
    await this.#notices.append(noticeCall, [noticeDraft("system", name, facts)], false);
  }

  /** Writes what still waits, as far as the store takes it. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#flushed();
    // Where the store was away, it may be back.
    this.#flush();
    await this.#flushed();
    if (this.#pending.length > 0) this.#onLost(new Error(`${this.#pending.length} notices were not written before the end`));
  }

  /** Returns when nothing is left, or the store did not take it. */
  async #flushed(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
  }

  #keep(draft: EntryDraft): void {
    if (this.#pending.length + this.#underWay >= pending_max) return this.#onLost(new Error("too many notices wait for the store"));
    this.#pending.push(draft);
    this.#flush();
  }

  #flush(): void {
    if (this.#flushing !== undefined || this.#pending.length === 0) return;
    this.#flushing = this.#write().then((taken) => {
      this.#flushing = undefined;
      if (taken) this.#flush();
    });
  }

  /** Answers whether the store took what waited. Never rejects. */
  async #write(): Promise<boolean> {
    const drafts = this.#pending.splice(0);
    this.#underWay = drafts.length;
    try {
      await this.#notices.append(noticeCall, drafts, false);
      return true;
    } catch {
      // The store is away, which others report; they are written when it is back.
      this.#pending.unshift(...drafts);
      return false;
    } finally {
      this.#underWay = 0;
    }
  }
}
