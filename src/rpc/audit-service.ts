import { AuditOutcome, type AuditFilter, type AuditService } from "../../gen/cardex/v1/audit_service_pb.js";
import { Places } from "../access/places.js";
import { lineHash } from "../audit/entry.js";
import { exportEntries, pageOfEntries } from "../audit/read-entries.js";
import type { Call } from "../call.js";
import { refuseCardData } from "../cards/free-text.js";
import { parseIndexCode } from "../cards/index-code.js";
import type { Institutions } from "../cards/institution.js";
import type { Limits } from "../config.js";
import { invalidField } from "../failure.js";
import type { EntryFilter } from "../store/audit.js";
import type { Database } from "../store/database.js";
import { parseToken } from "../vault/token-format.js";
import type { ServiceHandlers } from "./handler.js";
import { FieldParser, parsePageSize, parseTime } from "./parse-fields.js";

/**
 * AuditService: reading the log of the caller's own tenant.
 * @param database connections of its own: a long look through the log keeps no gateway waiting
 */
export function auditService(database: Database, institutions: Institutions, limits: Limits): ServiceHandlers<typeof AuditService> {
  const reads = new Places("auditReads", limits.auditReads);
  const exports = new Places("exports", limits.exports);
  return {
    listEntries: async (message, call) => {
      const filter = parseFilter(call, message.filter);
      const pageSize = parsePageSize(message.pageSize, limits.pageSize);
      const code = message.filter?.indexCode ?? "";
      const foreign = code !== "" && !(await institutions.mayHave(call.principal.tenant, code));
      for (const { key, value } of filter.members) call.facts = { ...call.facts, [`filter_${key}`]: foreign && key === "index_code" ? "unknown" : value };
      noteRange(call, filter);
      // No entry has a code of another institution.
      if (foreign) return { entries: [], nextPageToken: "" };
      const leave = reads.enter();
      try {
        const page = await pageOfEntries(database, filter, pageSize, message.pageToken, limits.auditScan);
        return { entries: page.lines.map((line) => ({ line, hash: lineHash(line) })), nextPageToken: page.next };
      } finally {
        leave();
      }
    },

    exportEntries: async function* (message, call) {
      const range = parseRange(message.startTime, message.endTime, "");
      noteRange(call, range);
      const leave = exports.enter();
      try {
        for await (const chunk of exportEntries(database, call.principal.tenant, range, message.cursor)) {
          yield {
            lines: [...chunk.lines],
            cursor: chunk.cursor,
            heads: chunk.heads.map(({ stream, seq, hash }) => ({ stream, seq: BigInt(seq), hash })),
          };
        }
      } finally {
        leave();
      }
    },
  };
}

function noteRange(call: Call, range: { readonly from: Date | undefined; readonly to: Date | undefined }): void {
  call.facts = {
    ...call.facts,
    ...(range.from === undefined ? {} : { from: range.from.toISOString() }),
    ...(range.to === undefined ? {} : { to: range.to.toISOString() }),
  };
}

function parseRange(
  start: Parameters<typeof parseTime>[0],
  end: Parameters<typeof parseTime>[0],
  prefix: string,
): { readonly from: Date | undefined; readonly to: Date | undefined } {
  const from = parseTime(start, `${prefix}start_time`);
  const to = parseTime(end, `${prefix}end_time`);
  if (from !== undefined && to !== undefined && from >= to) throw invalidField(`${prefix}end_time`, "must be after start_time");
  return { from, to };
}

const outcomes: Readonly<Record<number, string>> = {
  [AuditOutcome.RELEASED]: "released",
  [AuditOutcome.DONE]: "done",
  [AuditOutcome.DENIED]: "denied",
  [AuditOutcome.MALFORMED]: "malformed",
  [AuditOutcome.FAILED]: "failed",
  [AuditOutcome.REFUSED]: "refused",
  [AuditOutcome.WITHHELD]: "withheld",
};

function parseFilter(call: Call, message: AuditFilter | undefined): EntryFilter {
  const parser = new FieldParser();
  const range = parser.read(() => parseRange(message?.startTime, message?.endTime, "filter."));
  const members: (EntryFilter["members"][number] | undefined)[] = [
    member("principal", message?.principal, (text) => matching(text, /^spiffe:\/\/[a-z0-9._-]+(\/[A-Za-z0-9._-]+){1,16}$/, "principal", "a SPIFFE ID")),
    member("rpc", message?.rpc, (text) => matching(text, /^[A-Za-z0-9_.]{1,100}\/[A-Za-z0-9_]{1,100}$/, "rpc", "as in cardex.v1.TokenService/Detokenize")),
    member("token", message?.token, (text) => parseToken(text, "filter.token")),
    member("index_code", message?.indexCode, (text) => parseIndexCode(text, "filter.index_code")),
    member("card", message?.card, (text) => matching(text, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "card", "a card ID, as entries have it")),
    parser.read(() => outcomeMember(message?.outcome ?? AuditOutcome.UNSPECIFIED)),
  ];
  parser.finish();

  function member(key: string, text: string | undefined, parse: (text: string) => string): EntryFilter["members"][number] | undefined {
    return text === undefined || text === "" ? undefined : parser.read(() => ({ key, value: parse(text) }));
  }

  return {
    log: call.principal.tenant,
    from: range?.from,
    to: range?.to,
    members: members.filter((each) => each !== undefined),
  };
}

function matching(text: string, form: RegExp, field: string, what: string): string {
  if (!form.test(text)) throw invalidField(`filter.${field}`, `must be ${what}`);
  // The filter stands in the entry of the call.
  refuseCardData(text, `filter.${field}`);
  return text;
}

function outcomeMember(outcome: AuditOutcome): EntryFilter["members"][number] | undefined {
  if (outcome === AuditOutcome.UNSPECIFIED) return undefined;
  const value = outcomes[outcome];
  if (value === undefined) throw invalidField("filter.outcome", "is not an outcome that this server knows");
  return { key: "outcome", value };
}
