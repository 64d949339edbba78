import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Config } from "../config.js";
import { storeUnavailable } from "../failure.js";
import { connectionOptions, isAway, type Queryable, type Statement } from "./database.js";

/** COMMIT was sent and its answer was lost: nobody knows yet whether the transaction holds. */
export class CommitUnknown extends Error {
  override readonly name = "CommitUnknown";
}

/** Time that a statement of a shared transaction waits for a row, milliseconds: one caller's row must not hold up all the others. */
const lock_ms = 500;

const LOCK: Statement = { name: "writer_lock", text: "select pg_try_advisory_lock($1::int, $2::int) as locked" };
const PID: Statement = { name: "writer_pid", text: "select pg_backend_pid() as pid" };
const END_OLD: Statement = {
  name: "writer_end_old",
  text: "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1::int and application_name = $2",
};

/**
 * The one connection of a writer. Holds a session lock in the writer's name, so that a new connection proves that the backend before
 * it is gone, together with whatever it had not committed: only then may what it committed last be read.
 */
export class WriterConnection {
  readonly #config: Config["database"];
  readonly #name: string;
  readonly #lock: readonly [number, number];
  #client: pg.Client | undefined;
  #oldPid: number | undefined;

  /** @param name unique to this writer, at most 63 characters */
  constructor(config: Config["database"], name: string) {
    this.#config = config;
    this.#name = name;
    const digest = createHash("sha256").update(name).digest();
    this.#lock = [digest.readInt32BE(0), digest.readInt32BE(4)];
  }

  /** Connects if need be. @throws Failure STORE_UNAVAILABLE */
  async open(): Promise<Queryable> {
    this.#client ??= await this.#connect();
    return this.#queryable(this.#client);
  }

  /**
   * One transaction. Rolls back if `work` throws.
   * @throws CommitUnknown if COMMIT was sent and no answer came
   */
  async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    const tx = await this.open();
    const client = this.#client;
    if (client === undefined) throw storeUnavailable(new Error("the connection was lost"));
    let value: T;
    try {
      await client.query("BEGIN");
      value = await work(tx);
    } catch (error) {
      // A node that became read-only stays so: another connection may lead to the one that writes.
      if ((error as { code?: unknown }).code === "25006") this.#drop(client);
      else await this.#rollback(client);
      throw isAway(error) && !isBusy(error) ? storeUnavailable(error) : error;
    }
    let command: string;
    try {
      command = (await client.query("COMMIT")).command;
    } catch (error) {
      this.#drop(client);
      throw new CommitUnknown("the answer to COMMIT was lost", { cause: error });
    }
    if (command !== "COMMIT") throw new Error(`COMMIT answered ${command}`);
    return value;
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    if (client === undefined) return;
    // A peer that is hung must not keep the server from ending.
    await Promise.race([client.end(), sleep(this.#config.connect_ms, undefined, { ref: false })]);
    this.#drop(client);
  }

  async #connect(): Promise<pg.Client> {
    const options = connectionOptions(this.#config);
    const client = new pg.Client({
      ...options,
      options: `${options.options ?? ""} -c lock_timeout=${lock_ms} -c idle_in_transaction_session_timeout=${this.#config.statement_ms}`,
      application_name: this.#name,
      query_timeout: this.#config.statement_ms + 500,
    });
    client.on("error", () => this.#drop(client));
    client.on("end", () => this.#drop(client));
    try {
      await client.connect();
      const queryable = this.#queryable(client);
      await this.#takeLock(queryable);
      this.#oldPid = (await queryable.query<{ pid: number }>(PID))[0]?.pid;
      return client;
    } catch (error) {
      this.#drop(client);
      throw storeUnavailable(error);
    }
  }

  /** Waits until the backend before is gone, and helps it go. */
  async #takeLock(queryable: Queryable): Promise<void> {
    const tries = Math.ceil((this.#config.statement_ms + 1000) / 25);
    for (let i = 0; i < tries; i++) {
      if ((await queryable.query<{ locked: boolean }>(LOCK, this.#lock))[0]?.locked === true) return;
      if (this.#oldPid !== undefined) await queryable.query(END_OLD, [this.#oldPid, this.#name]).catch(ignoreRefused);
      await sleep(25);
    }
    throw new Error("the backend of the connection before does not end");
  }

  async #rollback(client: pg.Client): Promise<void> {
    try {
      await client.query("ROLLBACK");
    } catch {
      // The connection goes, and the transaction with it.
      this.#drop(client);
    }
  }

  #drop(client: pg.Client): void {
    if (this.#client === client) this.#client = undefined;
    // Not `end()`: it waits for a peer that may be hung.
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  }

  #queryable(client: pg.Client): Queryable {
    return {
      query: async <R extends object>(statement: Statement, values: readonly unknown[] = []) =>
        (await client.query<R>({ name: statement.name, text: statement.text, values: values as unknown[] })).rows,
    };
  }
}

/** Ending a backend of another login role is not allowed; its statement timeout ends it then. */
function ignoreRefused(error: unknown): void {
  if ((error as { code?: unknown }).code !== "42501") throw error;
}

/** Whether a statement took too long or waited too long for a row (57014, 55P03): a job of the batch is to blame, not the store. */
export function isBusy(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return code === "57014" || code === "55P03";
}
