import type { Journal, Refusal } from "../../src/audit/journal.js";
import type { Call, Outcome } from "../../src/call.js";
import type { Failure } from "../../src/failure.js";

/** One entry as the edge asked for it. */
export interface RecordedEntry {
  readonly id: string;
  readonly rpc: string;
  readonly principal: string;
  readonly log: string;
  readonly outcome: Outcome;
  readonly reason: string | undefined;
  readonly purpose: string | undefined;
}

/** Keeps what the edge asks of the journal, for tests of the edge alone. */
export class RecordingJournal implements Journal {
  readonly entries: RecordedEntry[] = [];
  readonly refusals: Refusal[] = [];
  readonly withheldCalls: string[] = [];
  readonly events: string[] = [];
  /** What `record` does before it answers; may throw. */
  beforeRecord: (call: Call) => Promise<void> = () => Promise.resolve();

  async record(call: Call, outcome: Outcome, failure?: Failure): Promise<void> {
    await this.beforeRecord(call);
    call.audited = true;
    this.entries.push({
      id: call.id,
      rpc: call.rpc,
      principal: call.principal.id,
      log: call.principal.tenant,
      outcome,
      reason: failure?.inner ?? failure?.reason,
      purpose: call.purpose,
    });
  }

  withheld(call: Call): void {
    this.withheldCalls.push(call.id);
  }

  refused(refusal: Refusal): void {
    this.refusals.push(refusal);
  }

  notice(name: string): void {
    this.events.push(name);
  }

  event(name: string): Promise<void> {
    this.events.push(name);
    return Promise.resolve();
  }

  clear(): void {
    this.entries.length = 0;
    this.refusals.length = 0;
    this.withheldCalls.length = 0;
    this.events.length = 0;
    this.beforeRecord = () => Promise.resolve();
  }
}
