import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Config } from "../config.js";
import { storeUnavailable } from "../failure.js";

/** A statement with a name, so that PostgreSQL plans it once a connection. */
export interface Statement {
  /** Unique over the whole service. */
  readonly name: string;
  readonly text: string;
}

/** Something that runs statements: the pool, or one transaction. */
export interface Queryable {
  query<R extends object>(statement: Statement, values?: readonly unknown[]): Promise<R[]>;
}

/** On also on a standby (PostgreSQL manual, 20.11.1 and 27.4.1). */
const READ_ONLY: Statement = { name: "read_only", text: "select current_setting('transaction_read_only') as \"readOnly\"" };

/** The pool for lookups. Writers have connections of their own (`writer-connection.ts`). */
export class Database implements Queryable {
  readonly #pool: pg.Pool;
  /** The connections of the pool, until each has ended. */
  readonly #clients = new Set<pg.ClientBase>();
  readonly #config: Config["database"];
  readonly #onLost: (error: Error) => void;

  /** @param onLost hears of each connection that was lost while nothing, or a transaction, was under way on it; must not throw */
  constructor(config: Config["database"], onLost: (error: Error) => void = () => {}) {
    this.#config = config;
    this.#onLost = onLost;
    this.#pool = new pg.Pool({
      ...connectionOptions(config),
      max: config.pool,
      query_timeout: config.statement_ms + 500,
      idleTimeoutMillis: 30_000,
    });
    this.#pool.on("error", onLost);
    this.#pool.on("connect", (client) => this.#clients.add(client));
    this.#pool.on("remove", (client) => this.#clients.delete(client));
  }

  /** @throws Failure STORE_UNAVAILABLE; other errors (constraint, syntax) as pg throws them. */
  async query<R extends object>(statement: Statement, values: readonly unknown[] = []): Promise<R[]> {
    try {
      const result = await this.#pool.query<R>({ name: statement.name, text: statement.text, values: values as unknown[] });
      return result.rows;
    } catch (error) {
      throw isAway(error) ? storeUnavailable(error) : error;
    }
  }

  /** A transaction outside the way of a request (set-up, administration, jobs). Rolled back if `work` throws. */
  async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    let client: pg.PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      throw storeUnavailable(error);
    }
    // While it is checked out the pool does not listen, and an error that nobody listens to ends the process.
    const lost = (error: Error): void => this.#onLost(error);
    client.on("error", lost);
    let keep = false;
    try {
      await client.query("BEGIN");
      const value = await work(queryable(client));
      await client.query("COMMIT");
      keep = true;
      return value;
    } catch (error) {
      throw isAway(error) ? storeUnavailable(error) : error;
    } finally {
      client.release(!keep);
      client.off("error", lost);
    }
  }

  /**
   * Whether PostgreSQL is here and takes writes: after a failover a connection may lead to a standby, which answers lookups. That connection is
   * dropped, so that the next one may lead elsewhere.
   * @throws Failure STORE_UNAVAILABLE if not
   */
  async requireWritable(): Promise<void> {
    await this.transaction(async (tx) => {
      const [state] = await tx.query<{ readonly readOnly: string }>(READ_ONLY);
      if (state?.readOnly !== "off") throw storeUnavailable(new Error("PostgreSQL takes no writes: it is a standby, or set to read only"));
    });
  }

  /**
   * Work on a connection of its own, without a transaction: for session locks, which end with it. It may be lost before the work is done: the next
   * statement tells.
   * @throws Failure STORE_UNAVAILABLE; what `work` throws
   */
  async session<T>(name: string, work: (session: Queryable) => Promise<T>): Promise<T> {
    const client = await Database.dedicated(this.#config, name);
    client.on("error", this.#onLost);
    try {
      return await work(queryable(client));
    } catch (error) {
      throw isAway(error) ? storeUnavailable(error) : error;
    } finally {
      await endWithin(client, this.#config.connect_ms);
    }
  }

  /** A connection of one's own, for LISTEN. The caller ends it. */
  static async dedicated(config: Config["database"], name: string): Promise<pg.Client> {
    const client = new pg.Client({ ...connectionOptions(config), application_name: name, query_timeout: config.statement_ms + 500 });
    try {
      await client.connect();
    } catch (error) {
      throw isAway(error) ? storeUnavailable(error) : error;
    }
    return client;
  }

  /** Ends the pool. Connections whose peer hangs are cut afterwards: they would keep the process from ending. */
  async close(): Promise<void> {
    await this.#pool.end();
    setTimeout(() => this.#clients.forEach(cut), this.#config.connect_ms).unref();
  }
}

function queryable(client: pg.ClientBase): Queryable {
  return {
    query: async <R extends object>(statement: Statement, values: readonly unknown[] = []) =>
      (await client.query<R>({ name: statement.name, text: statement.text, values: values as unknown[] })).rows,
  };
}

/** Ends a connection; cuts it if its peer does not end it, too. */
export async function endWithin(client: pg.Client, wait_ms: number): Promise<void> {
  const ended = await Promise.race([client.end().then(() => true), sleep(wait_ms, false, { ref: false })]);
  if (!ended) cut(client);
}

function cut(client: pg.ClientBase): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}

/**
 * Every statement finds its rows by a key. A plan that was made while a table was small, and is kept with the prepared statement, must not
 * read the whole of it when it has grown.
 */
const planSettings: readonly string[] = ["-c enable_seqscan=off", "-c enable_hashjoin=off", "-c enable_mergejoin=off", "-c jit=off"];

/** Options of every connection: schema, role, timeouts. */
export function connectionOptions(config: Config["database"]): pg.ClientConfig {
  const settings = [
    "-c search_path=cardex",
    "-c timezone=UTC",
    `-c statement_timeout=${config.statement_ms}`,
    "-c idle_in_transaction_session_timeout=15000",
    ...planSettings,
  ];
  if (config.role !== undefined) settings.push(`-c role=${config.role}`);
  return {
    connectionString: config.url,
    connectionTimeoutMillis: config.connect_ms,
    keepAlive: true,
    application_name: "cardex",
    options: settings.join(" "),
  };
}

/** Whether an error says that PostgreSQL is away, stopping, full, too slow or read only (25006), rather than that a statement is wrong. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string") {
    if (/^(08|53|57P|58)/.test(code) || code === "57014" || code === "55P03" || code === "25P03" || code === "25P04" || code === "25006") return true;
    if (/^E[A-Z]+$/.test(code)) return true;
  }
  return /^(Connection terminated|timeout exceeded|Query read timeout|Client has encountered|Client was closed|Cannot use a pool|The client was closed)/.test(
    error.message,
  ) || /not queryable|Connection ended/.test(error.message);
}
