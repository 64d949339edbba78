import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

/** SQL as a superuser, for looking at what a server has written and for standing in its way. */
export class Admin {
  readonly #pool: pg.Pool;

  /** @param url of one database; tables are looked for in the schema cardex */
  constructor(url: string) {
    this.#pool = new pg.Pool({ connectionString: url, max: 4, options: "-c search_path=cardex" });
    // Tests stop and kill the cluster; whoever asks next gets a new connection.
    this.#pool.on("error", () => undefined);
  }

  readonly admin = async <R extends object>(sql: string, values: unknown[] = []): Promise<R[]> => (await this.#pool.query<R>(sql, values)).rows;

  /** The number that a `select count(*)` answers. */
  async count(sql: string, values: unknown[] = []): Promise<number> {
    return Number((await this.admin<{ count: string }>(sql, values))[0]?.count);
  }

  /** Locks the rows that a query finds, until what it answers is called. */
  async hold(sql: string, values: unknown[] = []): Promise<() => Promise<void>> {
    const client = await this.#pool.connect();
    await client.query("BEGIN");
    const { rowCount } = await client.query(`${sql} for update`, values);
    if (rowCount === 0) throw new Error("there is no row to hold");
    return async () => {
      await client.query("ROLLBACK");
      client.release();
    };
  }

  /** Waits until the transaction of a writer of some server waits for a lock, in the database of this URL. */
  async untilHeld(): Promise<void> {
    await until(
      async () =>
        (await this.count("select count(*) from pg_stat_activity where datname = current_database() and application_name like 'cardex writer%' and wait_event_type = 'Lock'")) > 0,
    );
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}

/** Waits until something holds; the test's own time limit ends the wait. Throwing counts as not yet. */
export async function until(holds: () => Promise<boolean> | boolean, every_ms = 20): Promise<void> {
  for (;;) {
    try {
      if (await holds()) return;
    } catch {
      // Not yet: what is asked may be away.
    }
    await sleep(every_ms);
  }
}
