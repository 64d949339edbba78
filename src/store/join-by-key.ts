/**
 * A join that looks one row up by its whole key, for each row before it. Written as a plain join, PostgreSQL takes tables that it has no
 * statistics of (those of a new installation) by their tenant alone, every row with every row; `offset 0` keeps it from that.
 * @param condition names the columns by `alias`, and those of the rows before
 */
export function joinByKey(table: string, alias: string, condition: string): string {
  return `join lateral (select * from ${table} ${alias} where ${condition} offset 0) ${alias} on true`;
}
