import type { Queryable, Statement } from "./database.js";

/** One try to log in to a token. */
export interface LoginAttempt {
  /** UUID. */
  readonly id: string;
  readonly tokenSerial: string;
  readonly host: string;
  /** Process ID. */
  readonly process: number;
}

/** What is known of an attempt once it is over. `untold`: the token did not say anything about the PIN, for another failure came first. */
export type LoginOutcome = "accepted" | "refused" | "untold";

/** A PIN that a token refused, or of which nobody knows any more whether it did. */
export interface LoginRefusal {
  readonly refusedAt: Date;
  /** Who tried last. */
  readonly host: string;
  /** Process ID. */
  readonly process: number;
  /** Attempts since the last success of which nobody knows the outcome; two of them count as a refusal. */
  readonly attemptsUnknown: number;
}

const columns = `changed_at as "refusedAt", host, process, attempts_unknown as "attemptsUnknown"`;
const LOCK: Statement = { name: "logins_lock", text: "select pg_try_advisory_lock(hashtextextended('cardex hsm login ' || $1, 0)) as locked" };
const CONCLUDE: Statement = {
  name: "logins_conclude",
  text: `update hsm_logins set attempts_unknown = attempts_unknown + 1, changed_at = now(), state = case attempts_unknown when 0 then 'unknown' else 'refused' end
    where token_serial = $1 and state = 'attempt'`,
};
const BEGIN: Statement = {
  name: "logins_begin",
  text: `insert into hsm_logins as login (attempt_id, token_serial, host, process, state) values ($1, $2, $3, $4, 'attempt')
    on conflict (token_serial) do update
    set attempt_id = excluded.attempt_id, host = excluded.host, process = excluded.process, state = 'attempt', changed_at = now()
    where login.state = 'unknown' returning attempt_id`,
};
const FIND: Statement = { name: "logins_find_refusal", text: `select ${columns} from hsm_logins where token_serial = $1 and state = 'refused'` };
const ACCEPTED: Statement = { name: "logins_accepted", text: "delete from hsm_logins where token_serial = $1 and attempt_id = $2 and state <> 'refused'" };
const UNTOLD: Statement = {
  name: "logins_untold",
  text: "delete from hsm_logins where token_serial = $1 and attempt_id = $2 and state = 'attempt' and attempts_unknown = 0",
};
const UNTOLD_AGAIN: Statement = {
  name: "logins_untold_again",
  text: "update hsm_logins set state = 'unknown', changed_at = now() where token_serial = $1 and attempt_id = $2 and state = 'attempt'",
};
const REFUSED: Statement = {
  name: "logins_refused",
  text: `insert into hsm_logins as login (attempt_id, token_serial, host, process, state) values ($1, $2, $3, $4, 'refused')
    on conflict (token_serial) do update
    set attempt_id = excluded.attempt_id, host = excluded.host, process = excluded.process, state = 'refused', changed_at = now()
    where login.state <> 'refused'`,
};
const LIST: Statement = { name: "logins_list_refused", text: "select token_serial as \"tokenSerial\" from hsm_logins where state = 'refused' order by token_serial" };
const DELETE: Statement = { name: "logins_delete", text: `delete from hsm_logins where token_serial = $1 returning state, ${columns}` };

/** Takes the lock on a token's login for as long as the connection lasts, over all processes. Answers whether it was to be had. */
export async function tryLockLogin(session: Queryable, tokenSerial: string): Promise<boolean> {
  return (await session.query<{ readonly locked: boolean }>(LOCK, [tokenSerial]))[0]?.locked === true;
}

/**
 * Writes down that a login is tried now, before it is. To be called under the lock: an attempt that is found there is over, and who made it
 * ended, or lost PostgreSQL, before it told the outcome. Answers with the refusal if there is one, or if this makes two unknown outcomes.
 */
export async function beginLogin(session: Queryable, { id, tokenSerial, host, process }: LoginAttempt): Promise<LoginRefusal | undefined> {
  await session.query(CONCLUDE, [tokenSerial]);
  if ((await session.query(BEGIN, [id, tokenSerial, host, process])).length > 0) return undefined;
  const refusal = await findLoginRefusal(session, tokenSerial);
  if (refusal === undefined) throw new Error("hsm_logins: neither begun nor refused");
  return refusal;
}

/** Writes down how an attempt ended. May be repeated, and may come late: a refusal stands whatever happened since, a success ends only its own attempt. */
export async function endLogin(on: Queryable, { id, tokenSerial, host, process }: LoginAttempt, outcome: LoginOutcome): Promise<void> {
  if (outcome === "refused") await on.query(REFUSED, [id, tokenSerial, host, process]);
  else if (outcome === "accepted") await on.query(ACCEPTED, [tokenSerial, id]);
  else {
    await on.query(UNTOLD, [tokenSerial, id]);
    await on.query(UNTOLD_AGAIN, [tokenSerial, id]);
  }
}

export async function findLoginRefusal(on: Queryable, tokenSerial: string): Promise<LoginRefusal | undefined> {
  return (await on.query<LoginRefusal>(FIND, [tokenSerial]))[0];
}

/** Forgets what is known of a token's logins. Needs the owner role. Answers with the refusal, if there was one. */
export async function deleteLoginRefusal(on: Queryable, tokenSerial: string): Promise<LoginRefusal | undefined> {
  const [row] = await on.query<LoginRefusal & { readonly state: string }>(DELETE, [tokenSerial]);
  if (row?.state !== "refused") return undefined;
  const { state: _, ...refusal } = row;
  return refusal;
}

/** Serials of the tokens that refused a PIN. */
export async function listLoginRefusals(on: Queryable): Promise<string[]> {
  return (await on.query<{ readonly tokenSerial: string }>(LIST)).map((row) => row.tokenSerial);
}
