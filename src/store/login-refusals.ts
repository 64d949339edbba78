import type { Queryable, Statement } from "./database.js";

/** A PIN that a token refused. */
export interface LoginRefusal {
  readonly refusedAt: Date;
  readonly host: string;
  /** Process ID. */
  readonly process: number;
}

const columns = `refused_at as "refusedAt", host, process`;
const LOCK: Statement = { name: "login_refusals_lock", text: "select pg_advisory_xact_lock(hashtextextended('cardex hsm login ' || $1, 0))" };
const FIND: Statement = { name: "login_refusals_find", text: `select ${columns} from hsm_login_refusals where token_serial = $1` };
const INSERT: Statement = {
  name: "login_refusals_insert",
  text: `insert into hsm_login_refusals (token_serial, host, process) values ($1, $2, $3) returning ${columns}`,
};
const LIST: Statement = { name: "login_refusals_list", text: "select token_serial as \"tokenSerial\" from hsm_login_refusals order by token_serial" };
const DELETE: Statement = { name: "login_refusals_delete", text: `delete from hsm_login_refusals where token_serial = $1 returning ${columns}` };

/** Lets one transaction at a time deal with a token's login, over all processes; ends with the transaction. */
export async function lockLogin(tx: Queryable, tokenSerial: string): Promise<void> {
  await tx.query(LOCK, [tokenSerial]);
}

export async function findLoginRefusal(on: Queryable, tokenSerial: string): Promise<LoginRefusal | undefined> {
  return (await on.query<LoginRefusal>(FIND, [tokenSerial]))[0];
}

export async function insertLoginRefusal(on: Queryable, tokenSerial: string, host: string, process: number): Promise<LoginRefusal> {
  const [row] = await on.query<LoginRefusal>(INSERT, [tokenSerial, host, process]);
  if (row === undefined) throw new Error("login_refusals_insert returned no row");
  return row;
}

/** Needs the owner role. Answers with what was deleted. */
export async function deleteLoginRefusal(on: Queryable, tokenSerial: string): Promise<LoginRefusal | undefined> {
  return (await on.query<LoginRefusal>(DELETE, [tokenSerial]))[0];
}

/** Serials of the tokens that refused a PIN. */
export async function listLoginRefusals(on: Queryable): Promise<string[]> {
  return (await on.query<{ readonly tokenSerial: string }>(LIST)).map((row) => row.tokenSerial);
}
