import { clock } from "../../clock.js";
import type { Config } from "../../config.js";
import { Failure } from "../../failure.js";
import { Database, type Statement } from "../../store/database.js";
import { pendingMigrations } from "../../store/migrate.js";
import { fail, type Finding, findingsOf, ok, warn } from "./check.js";

/** Oldest PostgreSQL that Cardex works with. */
const version_min = 15;
/** Largest difference to the database's clock without a warning, milliseconds (PCI DSS 10.6). */
const clockDifference_ms_max = 1000;

const SERVER: Statement = {
  name: "doctor_server",
  text: `select current_setting('server_version_num')::int / 10000 as version, current_user as role,
    (select rolsuper from pg_roles where rolname = session_user) as superuser, clock_timestamp() as now`,
};
const RIGHTS: Statement = {
  name: "doctor_rights",
  text: `select c.relname as name,
      array_remove(array[case when has_table_privilege(c.oid, 'UPDATE') then 'UPDATE' end, case when has_table_privilege(c.oid, 'DELETE') then 'DELETE' end,
        case when has_table_privilege(c.oid, 'TRUNCATE') then 'TRUNCATE' end], null) as rights
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'cardex' and c.relname like 'audit_entries%' and c.relkind in ('r', 'p') order by 1`,
};

interface ServerRow {
  readonly version: number;
  readonly role: string;
  readonly superuser: boolean;
  readonly now: Date;
}

/** PostgreSQL as the service sees it: reachable, new enough, migrated, with no right to change the audit log, its clock like ours. */
export async function checkDatabase(config: Config["database"]): Promise<readonly Finding[]> {
  const database = new Database({ ...config, pool: 1 });
  try {
    const before_ms = clock.now_ms();
    const [server] = await database.query<ServerRow>(SERVER);
    const after_ms = clock.now_ms();
    if (server === undefined) return [fail("PostgreSQL", "does not answer", "look at its log")];
    return [
      versionFinding(server),
      clockFinding(server.now.getTime(), before_ms, after_ms),
      ...(await findingsOf("migrations", "run: cardex migrate", () => migrationFindings(config.url))),
      ...(await findingsOf("audit tables", "run: cardex migrate", async () => rightsFindings(server, await database.query(RIGHTS)))),
    ];
  } catch (error) {
    const cause = error instanceof Failure && error.cause instanceof Error ? error.cause : error;
    return [fail("PostgreSQL", cause instanceof Error ? cause.message : "can't be reached", "check database.url, and that PostgreSQL runs and takes connections from here; that of a development set-up runs while npm start does")];
  } finally {
    await database.close();
  }
}

function versionFinding({ version }: ServerRow): Finding {
  if (version < version_min) return fail("PostgreSQL", `is version ${version}`, `upgrade it to ${version_min} or newer`);
  return ok("PostgreSQL", `version ${version}`);
}

/** The time that the question took is not held against either clock. */
function clockFinding(theirs_ms: number, before_ms: number, after_ms: number): Finding {
  const difference_ms = Math.max(0, before_ms - theirs_ms, theirs_ms - after_ms);
  const found = `${Math.round(difference_ms)} ms from PostgreSQL's`;
  return difference_ms > clockDifference_ms_max ? warn("clock", found, "keep both machines' clocks by NTP") : ok("clock", found);
}

async function migrationFindings(url: string): Promise<Finding[]> {
  const pending = await pendingMigrations(url);
  if (pending.length > 0) return [fail("migrations", `not done: ${pending.join(", ")}`, "run: cardex migrate")];
  return [ok("migrations", "up to date")];
}

function rightsFindings({ role, superuser }: ServerRow, tables: readonly { readonly name: string; readonly rights: readonly string[] }[]): Finding[] {
  if (tables.length === 0) return [fail("audit tables", "there are none", "run: cardex migrate")];
  const wrong = tables.filter(({ rights }) => rights.length > 0);
  const findings = wrong.map(({ name, rights }) => fail("audit tables", `${role} may ${rights.join(", ")} ${name}`, `REVOKE ${rights.join(", ")} ON cardex.${name} FROM ${role}`));
  if (superuser) findings.push(warn("database login", "is a superuser", "give the server a login that is a member of cardex_service and nothing else"));
  return findings.length > 0 ? findings : [ok("audit tables", `${role} can add to them and not change them`)];
}
