import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AuditOutcome, AuditService, type ListEntriesRequestSchema } from "../../gen/cardex/v1/audit_service_pb.js";
import { type FreshDatabase, freshDatabase } from "../../test/support/database.js";
import { defaultLimits, testCall } from "../../test/support/vault.js";
import { Institutions } from "../cards/institution.js";
import type { Limits } from "../config.js";
import { listEntries } from "../store/audit.js";
import { Database } from "../store/database.js";
import { auditService } from "./audit-service.js";

const stream = "00000000-0000-7000-8000-000000000001";
let fresh: FreshDatabase;
let database: Database;
let admin: pg.Client;

beforeAll(async () => {
  fresh = await freshDatabase();
  database = new Database({ ...fresh.service, pool: fresh.service.auditPool });
  admin = new pg.Client({ connectionString: fresh.adminUrl, options: "-c search_path=cardex" });
  await admin.connect();
  // Of a hundred entries, a second apart, the first alone is a denial; what stands in it fills lines of 2 to 3 KB.
  await admin.query(
    `insert into audit_entries (log, stream, seq, at, line) select 'acme', $1, n, clock_timestamp() - make_interval(secs => 100 - n),
       '{"n":' || n || ',"outcome":' || case n when 1 then '"denied"' else '"done"' end || ',"x":"' || repeat('x', 2500) || '"}' from generate_series(1, 100) as n`,
    [stream],
  );
});

afterAll(async () => {
  await admin.end();
  await database.close();
  await fresh.close();
});

function serviceOf(limits: Partial<Limits> = {}): ReturnType<typeof auditService> {
  return auditService(database, new Institutions(database), { ...defaultLimits, ...limits });
}

/** One page: the numbers of its entries, and where the next begins. */
async function page(service: ReturnType<typeof auditService>, request: MessageInitShape<typeof ListEntriesRequestSchema>): Promise<{ numbers: number[]; next: string }> {
  const answer = await service.listEntries(create(AuditService.method.listEntries.input, request), testCall("AuditService/ListEntries"));
  return { numbers: (answer.entries ?? []).map(({ line }) => (JSON.parse(line ?? "") as { n: number }).n), next: answer.nextPageToken ?? "" };
}

/** All pages, as a client follows them. */
async function pages(service: ReturnType<typeof auditService>, request: MessageInitShape<typeof ListEntriesRequestSchema>): Promise<number[][]> {
  const all: number[][] = [];
  let pageToken = "";
  do {
    const { numbers, next } = await page(service, { ...request, pageToken });
    all.push(numbers);
    pageToken = next;
  } while (pageToken !== "");
  return all;
}

const down = (from: number, to: number): number[] => Array.from({ length: from - to + 1 }, (_, i) => from - i);

describe("ListEntries", () => {
  it("looks through at most limits.auditScan entries a page, and says where to go on although it found none", async () => {
    const service = serviceOf({ auditScan: 30 });
    const denied = { filter: { outcome: AuditOutcome.DENIED } };
    expect(await pages(service, denied)).toEqual([[], [], [], [1]]);
    expect(await pages(serviceOf({ auditScan: 100 }), denied)).toEqual([[1], []]);
    expect(await pages(serviceOf({ auditScan: 101 }), denied)).toEqual([[1]]);
  });

  it("gives each entry once, newest first, whichever ends a page: its size or what it may look through", async () => {
    for (const [auditScan, pageSize] of [[30, 7], [7, 30], [10, 10], [50, 49], [50, 50], [50, 51], [1, 1]] as const) {
      expect((await pages(serviceOf({ auditScan }), { pageSize })).flat(), `${auditScan}, ${pageSize}`).toEqual(down(100, 1));
    }
  });

  it("has pages of about a MiB of lines, whatever their number, and one line always goes", async () => {
    await insertLarge("large", 150);
    const sizes: number[] = [];
    let pageToken = "";
    do {
      const answer = await serviceOf().listEntries(create(AuditService.method.listEntries.input, { pageSize: 1000, pageToken }), testCall("AuditService/ListEntries", { tenant: "large" }));
      sizes.push(toBinary(AuditService.method.listEntries.output, create(AuditService.method.listEntries.output, answer)).length);
      pageToken = answer.nextPageToken ?? "";
    } while (pageToken !== "");
    expect(sizes).toHaveLength(3);
    expect(Math.max(...sizes)).toBeLessThan(1_100_000);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThan(150 * 16_000);
  });

  it("is done at most limits.auditReads times at once; one more is refused, and let in when there is room again", async () => {
    const service = serviceOf({ auditReads: 2 });
    const results = await Promise.allSettled([page(service, {}), page(service, {}), page(service, {})]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
    expect(results[2]).toMatchObject({ reason: { reason: "LIMIT", limit: "auditReads" } });
    expect((await page(service, { pageSize: 1 })).numbers).toEqual([100]);
  });

  it("reaches its page by the index, also with a plan that was made for no page in particular", async () => {
    const client = new pg.Client({ connectionString: fresh.adminUrl, options: "-c search_path=cardex -c plan_cache_mode=force_generic_plan -c enable_seqscan=off" });
    await client.connect();
    const plans = new Set<string>();
    const explaining = {
      query: async <R extends object>(statement: { text: string }, values?: readonly unknown[]) => {
        await client.query(`prepare looked (text, timestamptz, timestamptz, timestamptz, uuid, bigint, text[], int, int) as ${statement.text}`);
        const given = (values ?? []).map((value) => (Array.isArray(value) ? "'{}'" : client.escapeLiteral(String(value)))).join(", ");
        plans.add((await client.query<{ "QUERY PLAN": string }>(`explain execute looked (${given})`)).rows.map((row) => row["QUERY PLAN"]).join("\n"));
        return [] as R[];
      },
    };
    await listEntries(explaining, { log: "acme", from: undefined, to: undefined, members: [] }, undefined, 10, 100);
    await client.end();
    const [plan = ""] = plans;
    expect(plan).toMatch(/Index Cond: \(\(log = \$1\) AND \(at >= \$2\) AND \(at < \$3\) AND \(ROW\(at, stream, seq\) < ROW\(\$4, \$5, \$6\)\)\)/);
    expect(plan).not.toMatch(/Sort|Seq Scan/);
  });
});

/** Entries of 16,000 bytes in a log of their own. */
async function insertLarge(log: string, entries: number): Promise<void> {
  await admin.query(
    `insert into audit_entries (log, stream, seq, at, line)
       select $1, $2, n, clock_timestamp() - make_interval(secs => 1000 - n), '{"n":' || n || ',"x":"' || repeat('x', 16000) || '"}' from generate_series(1, $3::int) as n`,
    [log, stream, entries],
  );
  await admin.query("insert into audit_heads (log, stream, kind, seq, hash) values ($1, $2, 'reveal', $3, $4)", [log, stream, entries, Buffer.alloc(32)]);
}

describe("ExportEntries", () => {
  it("sends messages of about a MiB of lines, every line once, and goes on behind any of them", async () => {
    await insertLarge("exported", 150);
    const messages = await exported(serviceOf(), "exported", "");
    const { output } = AuditService.method.exportEntries;
    for (const message of messages) expect(toBinary(output, create(output, message)).length).toBeLessThan(1_100_000);
    expect(messages.flatMap(numbersOf)).toEqual(down(150, 1).toReversed());
    const rest = await exported(serviceOf(), "exported", messages[0]?.cursor ?? "");
    expect([...numbersOf(messages[0] ?? {}), ...rest.flatMap(numbersOf)]).toEqual(down(150, 1).toReversed());
  });

  it("is done at most limits.exports times at once; one more is refused, and let in when one has ended or was given up", async () => {
    const service = serviceOf({ exports: 2 });
    const begun = [begin(service), begin(service)];
    await Promise.all(begun.map((each) => each.next()));
    await expect(begin(service).next()).rejects.toMatchObject({ reason: "LIMIT", limit: "exports" });
    await begun[0]?.return?.();
    await begin(service).next();
    await expect(begin(service).next()).rejects.toMatchObject({ reason: "LIMIT", limit: "exports" });
  });
});

type ExportMessage = MessageInitShape<typeof AuditService.method.exportEntries.output>;

function begin(service: ReturnType<typeof auditService>, log = "acme", cursor = ""): AsyncIterator<ExportMessage> {
  return service.exportEntries(create(AuditService.method.exportEntries.input, { cursor }), testCall("AuditService/ExportEntries", { tenant: log }))[Symbol.asyncIterator]();
}

async function exported(service: ReturnType<typeof auditService>, log: string, cursor: string): Promise<ExportMessage[]> {
  const messages: ExportMessage[] = [];
  const iterator = begin(service, log, cursor);
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) messages.push(next.value);
  return messages;
}

function numbersOf(message: ExportMessage): number[] {
  return (message.lines ?? []).map((line) => (JSON.parse(line) as { n: number }).n);
}
