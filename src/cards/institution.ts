import { LRUCache } from "lru-cache";
import { Failure } from "../failure.js";
import type { Database, Statement } from "../store/database.js";

const FIND: Statement = { name: "institution_of_tenant", text: "select institution from tenants where tenant = $1" };

/** The institution number of each tenant: the first four digits of its index codes. It never changes, so it is kept. */
export class Institutions {
  readonly #database: Database;
  readonly #known = new LRUCache<string, string>({ max: 10_000 });

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws Failure KEY_STATE if the tenant was not set up */
  async of(tenant: string): Promise<string> {
    const known = this.#known.get(tenant);
    if (known !== undefined) return known;
    const row = (await this.#database.query<{ institution: string }>(FIND, [tenant]))[0];
    if (row === undefined) {
      throw new Failure("KEY_STATE", "this tenant is not set up on the server; its operator runs `cardex tenants add`", { inner: "no tenant" });
    }
    this.#known.set(tenant, row.institution);
    return row.institution;
  }
}
