import pg from "pg";
import { ChainVerifier } from "../../src/audit/verify-chain.js";

/** An audit entry, parsed. */
export interface ReadEntry {
  readonly kind: string;
  readonly log: string;
  readonly stream: string;
  readonly seq: number;
  readonly time: string;
  readonly rpc?: string;
  readonly principal?: string;
  readonly address?: string;
  readonly outcome?: string;
  readonly reason?: string;
  readonly purpose?: string;
  readonly request_id?: string;
  readonly resources?: readonly { readonly token?: string; readonly index_code?: string; readonly card?: string; readonly outcome?: string; readonly reason?: string }[];
  readonly [field: string]: unknown;
}

/** Names a point in all logs: the heads of all streams. */
export type Mark = ReadonlyMap<string, number>;

/** Reads the logs of an installation in the database itself, where no right is in the way. */
export class LogReader {
  readonly #pool: pg.Pool;

  /** @param adminUrl URL of a superuser */
  constructor(adminUrl: string) {
    this.#pool = new pg.Pool({ connectionString: adminUrl, max: 1, options: "-c search_path=cardex" });
  }

  /** Runs any SQL. */
  async sql<R extends object>(text: string, values: unknown[] = []): Promise<R[]> {
    return (await this.#pool.query<R>(text, values)).rows;
  }

  /** Where the logs end now. */
  async mark(): Promise<Mark> {
    const heads = await this.sql<{ log: string; stream: string; seq: string }>("select log, stream::text, seq from audit_heads");
    return new Map(heads.map(({ log, stream, seq }) => [`${log} ${stream}`, Number(seq)]));
  }

  /** The entries of a log in the order of their commits, after a mark. */
  async entries(log: string, after: Mark = new Map()): Promise<ReadEntry[]> {
    const rows = await this.sql<{ line: string }>("select line from audit_entries where log = $1 order by at, stream, seq", [log]);
    return rows.map(({ line }) => JSON.parse(line) as ReadEntry).filter(({ stream, seq }) => seq > (after.get(`${log} ${stream}`) ?? 0));
  }

  /** What is wrong with the chains of a log, its heads included. */
  async problems(log: string): Promise<string[]> {
    const verifier = new ChainVerifier();
    const lines = await this.sql<{ line: string }>("select line from audit_entries where log = $1 order by stream, seq", [log]);
    const heads = await this.sql<{ stream: string; seq: string; hash: Buffer }>("select stream::text, seq, hash from audit_heads where log = $1", [log]);
    const found = lines.flatMap(({ line }) => verifier.accept(Buffer.from(line)) ?? []);
    const ends = heads.map(({ stream, seq, hash }) => ({ stream, seq: Number(seq), hash: hash.toString("hex") }));
    return [...found, ...verifier.finish({ heads: ends, fromBeginning: true, toEnd: true })].map(({ message }) => message);
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}
