import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { AuditService } from "../../../gen/cardex/v1/audit_service_pb.js";
import { type FreshDatabase, freshDatabase } from "../../../test/support/database.js";
import { defaultLimits, testCall } from "../../../test/support/vault.js";
import { CommittedWriter } from "../../audit/committed-writer.js";
import { noticeDraft } from "../../audit/entry.js";
import { noticeCall } from "../../audit/notice-call.js";
import { Institutions } from "../../cards/institution.js";
import { Database } from "../../store/database.js";
import { auditService } from "../../rpc/audit-service.js";
import { exportLog, type ExportSummary } from "./export-log.js";

let fresh: FreshDatabase;
let database: Database;
let folder: string;
let writers: CommittedWriter[];

beforeEach(async () => {
  fresh = await freshDatabase();
  database = new Database(fresh.service);
  folder = await mkdtemp(join(tmpdir(), "cardex-export-"));
  const observer = { headMoved: () => undefined, withheld: () => undefined, notDone: () => undefined, commitResolved: () => undefined, workFailed: () => undefined };
  // Their streams are born in this order.
  writers = [0, 1, 2].map(() => new CommittedWriter({ database: fresh.service, stream: "notice", queue_max: 10, batch_max: 10, observer }));
});

afterEach(async () => {
  for (const writer of writers) await writer.close();
  await database.close();
  await fresh.close();
  await rm(folder, { recursive: true, force: true });
});

async function write(writer: number, entries: number): Promise<void> {
  await writers[writer]?.append(noticeCall, Array.from({ length: entries }, (_, n) => noticeDraft("acme", "test", { n })), false);
}

/** Exports, over the real handlers; the call breaks after so many messages. */
async function exported(messages_max = Number.POSITIVE_INFINITY): Promise<ExportSummary & { readonly told: string[]; readonly notes: string[] }> {
  const service = auditService(database, new Institutions(database), defaultLimits);
  const { input, output } = AuditService.method.exportEntries;
  async function* exportEntries(init: MessageInitShape<typeof input>) {
    let messages = 0;
    for await (const message of service.exportEntries(create(input, init), testCall("AuditService/ExportEntries"))) {
      if (messages === messages_max) throw new Error("interrupted");
      messages += 1;
      yield create(output, message);
    }
  }
  const told: string[] = [];
  const notes: string[] = [];
  const client = { audit: { exportEntries, listEntries: () => Promise.reject(new Error("not asked for")) } };
  const summary = await exportLog(client, {
    file: join(folder, "log.jsonl"),
    from: undefined,
    to: undefined,
    force: false,
    signal: new AbortController().signal,
    note: (line) => notes.push(line),
    tell: ({ message }) => told.push(message),
  });
  return { ...summary, told, notes };
}

it("an export goes on after an interruption, and no stream that began to write in this log behind its back counts as removed", async () => {
  await write(1, 600);
  await write(2, 3);
  await expect(exported(1)).rejects.toThrow("interrupted");
  // Born before the stream that the export has reached.
  await write(0, 2);
  const summary = await exported();
  expect(summary).toMatchObject({ entries: 603, streams: 2, problems: 0, told: [] });
  expect(summary.notes).toHaveLength(1);
  expect(summary.notes[0]).toContain("has entries since the export passed it");
  expect((await readFile(join(folder, "log.jsonl"), "utf8")).split("\n")).toHaveLength(604);
});

it("a stream that was removed behind the point of an interruption still shows", async () => {
  await write(1, 600);
  await write(2, 3);
  await expect(exported(1)).rejects.toThrow("interrupted");
  await removeNewestStream();
  expect((await exported()).told).toEqual([expect.stringContaining("is missing as a whole")]);
});

/** Removes a stream's entries, as only somebody could who may switch the trigger off; its head stays. */
async function removeNewestStream(): Promise<void> {
  const owner = new Database({ ...fresh.service, url: fresh.ownerUrl, role: "cardex_owner" });
  await owner.query({ name: "off", text: "alter table audit_entries disable trigger user" });
  await owner.query({ name: "remove", text: "delete from audit_entries where stream = (select max(stream::text) from audit_heads)::uuid" });
  await owner.close();
}

it("an export of an empty log is an empty file", async () => {
  expect(await exported()).toMatchObject({ entries: 0, problems: 0 });
  expect(await readFile(join(folder, "log.jsonl"), "utf8")).toBe("");
});
