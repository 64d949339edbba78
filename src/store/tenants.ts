import type { Queryable, Statement } from "./database.js";

/** An institution; every row, key and permission belongs to one. */
export interface Tenant {
  /** 1 to 32 of a-z, 0-9 and '-', not starting with '-'; not "system". */
  readonly tenant: string;
  /** Four digits, the tenant's own: the first four of its index codes. */
  readonly institution: string;
  readonly createdAt: Date;
}

const columns = `tenant, institution, created_at as "createdAt"`;
const LIST: Statement = { name: "tenants_list", text: `select ${columns} from tenants order by tenant` };
const FIND: Statement = { name: "tenants_find", text: `select ${columns} from tenants where tenant = $1` };
const INSERT: Statement = { name: "tenants_insert", text: `insert into tenants (tenant, institution) values ($1, $2) returning ${columns}` };

/** All tenants, by name. */
export function listTenants(on: Queryable): Promise<Tenant[]> {
  return on.query<Tenant>(LIST);
}

export async function findTenant(on: Queryable, tenant: string): Promise<Tenant | undefined> {
  return (await on.query<Tenant>(FIND, [tenant]))[0];
}

/** Needs the owner role. */
export async function insertTenant(on: Queryable, tenant: string, institution: string): Promise<Tenant> {
  const [row] = await on.query<Tenant>(INSERT, [tenant, institution]);
  if (row === undefined) throw new Error("tenants_insert returned no row");
  return row;
}
