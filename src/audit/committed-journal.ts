import type { Call, Outcome } from "../call.js";
import type { Failure } from "../failure.js";
import { type CommittedWriter, withheldDraft } from "./committed-writer.js";
import { callDrafts, noticeDraft } from "./entry.js";
import type { Journal, Refusal } from "./journal.js";
import { noticeCall } from "./notice-call.js";
import type { RefusalSums } from "./refusal-sums.js";

/**
 * The journal over two writers: entries that an answer waits for go with the reveals; what nobody waits for goes through the
 * notice writer, which never delays a reveal.
 */
export class CommittedJournal implements Journal {
  readonly #reveals: CommittedWriter;
  readonly #notices: CommittedWriter;
  readonly #sums: RefusalSums;
  readonly #onLost: (error: unknown) => void;

  /** @param onLost told when a notice could not be committed after all tries */
  constructor(reveals: CommittedWriter, notices: CommittedWriter, sums: RefusalSums, onLost: (error: unknown) => void) {
    this.#reveals = reveals;
    this.#notices = notices;
    this.#sums = sums;
    this.#onLost = onLost;
  }

  async record(call: Call, outcome: Outcome, failure?: Failure): Promise<void> {
    const drafts = callDrafts(call, { outcome, reason: failure?.inner ?? failure?.reason });
    await this.#reveals.append(call, drafts, outcome === "done" || outcome === "released");
  }

  withheld(call: Call): void {
    void this.#notices.append(noticeCall, [withheldDraft(call)], false).catch(this.#onLost);
  }

  refused(refusal: Refusal): void {
    this.#sums.add(refusal);
  }

  async event(name: string, facts: Record<string, string | number>): Promise<void> {
    await this.#notices.append(noticeCall, [noticeDraft("system", name, facts)], false);
  }
}
