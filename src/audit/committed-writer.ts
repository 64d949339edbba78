import { setTimeout as sleep } from "node:timers/promises";
import type { Call, Resource } from "../call.js";
import { clock } from "../clock.js";
import type { Config } from "../config.js";
import { Failure, storeUnavailable } from "../failure.js";
import { appendEntries, HeadMoved, readHeads, readMoment } from "../store/audit.js";
import { isAway, type Statement } from "../store/database.js";
import { CommitUnknown, isBusy, WriterConnection } from "../store/writer-connection.js";
import type { EntryDraft } from "./entry.js";
import { AuditStream } from "./stream.js";
import type { WorkKind } from "./work.js";
import { type Ended, ending, entriesOf, failAll, hasEntry, type Round, saysReleased, takeBatch, type Waiting } from "./writer-batch.js";

export interface WriterOptions {
  readonly database: Config["database"];
  readonly stream: "reveal" | "mutation" | "notice";
  /** Jobs waiting, at most. */
  readonly queue_max: number;
  /** Items in one commit, at most; a single call may have more. */
  readonly batch_max: number;
  readonly observer: WriterObserver;
}

/** Told what an operator must know. */
export interface WriterObserver {
  /** The head of the stream is not where the writer left it: it writes no more. */
  headMoved(error: unknown): void;
  /** A commit's answer was lost; `committed` tells what was found. */
  commitResolved(committed: boolean): void;
  /** An entry says "released", and its caller was told UNAVAILABLE meanwhile. */
  withheld(call: Call): void;
  /** A call that was told UNAVAILABLE turned out not to be committed; its entry is still to be written. */
  notDone(call: Call): void;
  /** Work failed for a reason that is not the store's absence. */
  workFailed(kind: string, error: unknown): void;
}

const retries_max = 5;

/** Once it is known that some row of a batch is held, the halves of the batch do not wait for it again. */
const WAIT_LITTLE: Statement = { name: "writer_wait_little", text: "select set_config('lock_timeout', '20', true)" };

/** Tries of a job that is alone and still finds its rows held by others. */
const busyRetries_max = 2;

/** Decisions of one call that the policy may overtake. */
const decisions_max = 5;

/**
 * Commits work together with its audit entries: all that waits shares one transaction, one batch is in flight, the next leaves when it
 * returns. An answer may leave only after `submit` or `append` returned.
 *
 * In the transaction: the policy's version and PostgreSQL's time are read; work decided under another version is put back
 * and decided again; each kind of work runs over its jobs; the entries are placed in this writer's stream, and its heads move by
 * compare-and-set; the version is read once more, for the transaction may have waited for locks. A deadlock is retried; a job that
 * poisons the batch is found by halving; a commit whose answer was lost is resolved from the heads before anything else is written.
 */
export class CommittedWriter {
  readonly #options: WriterOptions;
  readonly #stream: AuditStream;
  readonly #connection: WriterConnection;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #closing = false;
  #broken: unknown;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#stream = new AuditStream(options.stream);
    this.#connection = new WriterConnection(options.database, `cardex writer ${this.#stream.id}`);
  }

  /** Jobs waiting for a commit. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Whether this writer can write no more: its stream's head was moved by somebody else. */
  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /**
   * Runs work and commits it with its call's entry. Sets `call.audited`, also where the work failed in a way that is itself
   * the audited outcome.
   * @throws Failure what the work answered, LIMIT (queue full), DEADLINE (gone while waiting), STORE_UNAVAILABLE, DENIED
   * @throws Stale prepare the work anew
   */
  async submit<I, T>(kind: WorkKind<I, T>, call: Call, input: I): Promise<T> {
    for (let round = 0; round < decisions_max; round++) {
      const ended = await this.#enqueue({
        kind: kind as WorkKind<unknown, unknown>,
        job: { call, input },
        drafts: undefined,
        decided: true,
      });
      if (ended.how === "done") return (ended.value as { readonly value: T }).value;
      if (ended.how === "failed") throw ended.error;
      await call.decideAgain(ended.policyVersion);
    }
    throw policyMoves();
  }

  /**
   * Commits entries that carry no work of their own.
   * @param decided whether `call` was allowed something, so that the policy must still be the one decided under
   */
  async append(call: Call, drafts: readonly EntryDraft[], decided: boolean): Promise<void> {
    for (let round = 0; round < decisions_max; round++) {
      const ended = await this.#enqueue({ kind: undefined, job: { call, input: undefined }, drafts, decided });
      if (ended.how === "done") return;
      if (ended.how === "failed") throw ended.error;
      await call.decideAgain(ended.policyVersion);
    }
    throw policyMoves();
  }

  /** Takes no more; waits for what is under way. */
  async close(): Promise<void> {
    this.#closing = true;
    while (this.#running !== undefined) await this.#running;
    await this.#connection.close();
  }

  #enqueue(work: Omit<Waiting, "settle">): Promise<Ended> {
    if (this.#broken !== undefined) return Promise.reject(storeUnavailable(this.#broken, "the audit stream is broken"));
    if (this.#closing) return Promise.reject(new Failure("STOPPING", "the server is stopping", { retryAfter_ms: 1000 }));
    if (this.#waiting.length >= this.#options.queue_max) {
      return Promise.reject(new Failure("LIMIT", "too much work waiting; try again", { limit: "writerQueue", retryAfter_ms: 100 }));
    }
    return new Promise<Ended>((resolve) => {
      this.#waiting.push({ ...work, settle: resolve });
      this.#running ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    // What arrives in the same turn of the event loop joins the first batch.
    await new Promise(setImmediate);
    while (this.#waiting.length > 0) {
      const batch = takeBatch(this.#waiting, this.#options.batch_max);
      const present = batch.filter((each) => !this.#gone(each));
      if (present.length > 0) await this.#commit(present).catch((error: unknown) => failAll(present, error));
    }
    this.#running = undefined;
  }

  /** Drops work whose caller has gone while it waited; nothing has been done for it. */
  #gone(each: Waiting): boolean {
    if (each.kind === undefined || !each.job.call.signal.aborted) return false;
    each.settle({ how: "failed", error: new Failure("DEADLINE", "the caller's time was over before its turn came") });
    return true;
  }

  /**
   * Brings one batch to an end, whatever happens.
   * @param impatient some job of it waits for a row that another server holds: the others wait no longer for it than they must
   */
  async #commit(batch: readonly Waiting[], impatient = false): Promise<void> {
    const named = batch.map((each) => each.job.call.resources);
    for (let retry = 0; ; retry++) {
      let round: Round | undefined;
      try {
        await this.#connection.transaction(async (tx) => {
          round = undefined;
          if (impatient) await tx.query(WAIT_LITTLE);
          const moment = await readMoment(tx);
          const results = await this.#runKinds(tx, batch, moment.policyVersion);
          const drafts = batch.flatMap((each) => entriesOf(each, results.get(each)));
          const placed = this.#stream.place(drafts, moment.at);
          if (placed.rows.length > 0) {
            const version = await appendEntries(tx, placed.rows, placed.moves);
            if (version !== moment.policyVersion && batch.some((each) => each.decided)) throw new PolicyMoved("the policy changed while the transaction waited");
          }
          round = { results, placed };
        });
        if (round !== undefined) this.#settle(batch, round);
        return;
      } catch (error) {
        if (error instanceof CommitUnknown && round !== undefined) {
          const committed = await this.#resolve(batch, round, error);
          if (committed === true) return this.#settle(batch, round);
          restoreResources(batch, named);
          if (committed === "told") return this.#nothingDone(batch);
          if (committed === "broken" || retry >= retries_max) return failAll(batch, storeUnavailable(error));
          continue;
        }
        restoreResources(batch, named);
        if (error instanceof HeadMoved) {
          this.#break(error);
          return failAll(batch, storeUnavailable(error, "the audit stream is broken"));
        } else if (error instanceof PolicyMoved) {
          if (retry >= retries_max) return failAll(batch, policyMoves());
        } else if (isRetryable(error) && retry < retries_max) {
          await sleep(2 ** retry);
        } else if (isBusy(error) && batch.length === 1) {
          // It waits for a row that another server holds; the others of its batch were committed without it.
          if (impatient || retry >= busyRetries_max) return failAll(batch, storeUnavailable(error, "busy"));
        } else if (error instanceof Failure && error.reason === "STORE_UNAVAILABLE") {
          // Nothing was committed. One try on a new connection; then everybody is told at once.
          if (retry > 0) return failAll([...batch, ...this.#waiting.splice(0)], error);
        } else if (batch.length > 1) {
          const middle = Math.ceil(batch.length / 2);
          const busy = impatient || isBusy(error);
          await this.#commit(batch.slice(0, middle), busy);
          return this.#commit(batch.slice(middle), busy);
        } else {
          this.#options.observer.workFailed(batch[0]?.kind?.name ?? "entry", error);
          return failAll(batch, error);
        }
      }
    }
  }

  /** Nothing of a batch was committed whose callers were told UNAVAILABLE: their entries say so; notices are written after all. */
  async #nothingDone(batch: readonly Waiting[]): Promise<void> {
    for (const each of batch) if (!isNotice(each)) this.#options.observer.notDone(each.job.call);
    const notices = batch.filter(isNotice);
    if (notices.length > 0) await this.#commit(notices);
  }

  async #runKinds(tx: Parameters<WorkKind<unknown, unknown>["run"]>[0], batch: readonly Waiting[], policyVersion: number): Promise<Map<Waiting, Ended>> {
    const results = new Map<Waiting, Ended>();
    const byKind = new Map<WorkKind<unknown, unknown>, Waiting[]>();
    for (const each of batch) {
      if (each.decided && each.job.call.policyVersion !== policyVersion) results.set(each, { how: "decide", policyVersion });
      else if (each.kind === undefined) results.set(each, { how: "done", value: undefined });
      else if (!byKind.get(each.kind)?.push(each)) byKind.set(each.kind, [each]);
    }
    for (const [kind, group] of [...byKind].sort(([a], [b]) => (a.name < b.name ? -1 : 1))) {
      const verdicts = await kind.run(
        tx,
        group.map((each) => each.job),
      );
      for (const [i, each] of group.entries()) results.set(each, ending(verdicts[i]));
    }
    return results;
  }

  /** The commit is known: heads move, callers are told. */
  #settle(batch: readonly Waiting[], round: Round): void {
    this.#stream.advance(round.placed.moves);
    for (const each of batch) {
      const ended = round.results.get(each) ?? { how: "failed", error: new Error("no result") };
      if (hasEntry(ended)) each.job.call.audited = true;
      each.settle(ended);
    }
  }

  /**
   * Finds out whether a commit whose answer was lost holds. Meanwhile whoever waits is refused; the batch's own callers are told
   * UNAVAILABLE when it takes long, and entries that turn out to say "released" are followed by "withheld".
   */
  async #resolve(batch: readonly Waiting[], round: Round, cause: unknown): Promise<boolean | "told" | "broken"> {
    const told_at_ms = clock.monotonic_ms() + this.#options.database.statement_ms;
    let told = false;
    for (let wait_ms = 20; ; wait_ms = Math.min(wait_ms * 2, 1000)) {
      if (!told && clock.monotonic_ms() > told_at_ms) {
        told = true;
        // Nobody waits for a notice, and it must not be written again by who keeps it.
        const callers = batch.filter((each) => !isNotice(each));
        for (const { job } of callers) job.call.unsettled = true;
        failAll(callers, storeUnavailable(cause));
      }
      try {
        const db = await this.#connection.open();
        const committed = this.#stream.committed(round.placed.moves, await readHeads(db, [this.#stream.id]));
        this.#options.observer.commitResolved(committed);
        if (told && committed) for (const each of batch) this.#withhold(each, round.results.get(each));
        return told && !committed ? "told" : committed;
      } catch (error) {
        if (!(error instanceof Failure && error.reason === "STORE_UNAVAILABLE") && !isAway(error)) {
          this.#break(error);
          return "broken";
        }
        failAll(this.#waiting.splice(0), storeUnavailable(cause));
        if (this.#closing) return "broken";
        await sleep(wait_ms);
      }
    }
  }

  #withhold(each: Waiting, ended: Ended | undefined): void {
    if (saysReleased(ended)) this.#options.observer.withheld(each.job.call);
  }

  #break(error: unknown): void {
    this.#broken = error;
    this.#options.observer.headMoved(error);
    failAll(this.#waiting.splice(0), storeUnavailable(error, "the audit stream is broken"));
  }
}

/** Nothing was committed: the work was decided under a policy that another had replaced before the end. */
class PolicyMoved extends Error {
  override readonly name = "PolicyMoved";
}

function policyMoves(): Failure {
  return new Failure("STORE_UNAVAILABLE", "the policy changes faster than calls can be decided; try again", { retryAfter_ms: 1000, inner: "policy" });
}

/** Deadlock (40P01), serialization failure (40001). */
function isRetryable(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === "40P01" || code === "40001";
}

/** What was rolled back names nothing: tokens and codes that a transaction did not commit never were. */
function restoreResources(batch: readonly Waiting[], named: readonly Resource[][]): void {
  for (const [i, each] of batch.entries()) if (each.kind !== undefined) each.job.call.resources = named[i] ?? [];
}

/** Work that is only an entry, and that no answer waits for. */
function isNotice(each: Waiting): boolean {
  return each.kind === undefined && !each.decided;
}
