import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { AuditOutcome, type AuditFilterSchema } from "../../../gen/cardex/v1/audit_service_pb.js";
import { enumNames, enumValue, moment, wholeNumber } from "../arguments.js";
import { exportLog } from "../audit/export-log.js";
import { headsFileOf, readHeads } from "../audit/heads-file.js";
import { problemLine, verifyFile } from "../audit/verify-file.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { exitCodes } from "../exit-codes.js";
import { table } from "../output.js";
import type { Shell } from "../shell.js";

/** `cardex audit list`, `export` and `verify`. */
export function addAudit(program: Command, shell: Shell): void {
  const audit = program.command("audit").summary("read, export and verify the audit log").description("The audit log of your tenant. Reading it is itself audited.");
  addList(audit, shell);
  addExport(audit, shell);
  addVerify(audit, shell);
}

interface ListOptions extends ConnectionOptions {
  readonly from?: Timestamp;
  readonly to?: Timestamp;
  readonly principal?: string;
  readonly rpc?: string;
  readonly outcome?: AuditOutcome;
  readonly token?: string;
  readonly indexCode?: string;
  readonly card?: string;
  readonly limit: number;
}

function addList(audit: Command, shell: Shell): void {
  const command = audit
    .command("list")
    .description("Lists entries, newest first. All filters that are given must hold.")
    .option("--from <time>", "from this time on", moment)
    .option("--to <time>", "before this time", moment)
    .option("--principal <spiffe-id>", "who called")
    .option("--rpc <name>", "for example cardex.v1.TokenService/Detokenize")
    .option("--outcome <outcome>", enumNames(AuditOutcome).join(", "), enumValue<AuditOutcome>(AuditOutcome))
    .option("--token <token>", "calls that named this token")
    .option("--index-code <code>", "calls that named or made this index code")
    .option("--card <id>", 'calls about this card, by its ID as entries name it ("card")')
    .option("--limit <n>", "at most so many", wholeNumber(1, 1_000_000), 100)
    .addHelpText("after", "\nExamples:\n  cardex audit list --outcome released --from 2026-11-01\n  cardex audit list --token tok_... --json");
  withConnection(command, "auditor").action(async (options: ListOptions) => {
    const filter = filterOf(options);
    const rows: string[][] = [];
    await withClient(options, async (client) => {
      let left = options.limit;
      let pageToken = "";
      do {
        const page = await client.audit.listEntries({ filter, pageSize: Math.min(1000, left), pageToken }, { signal: shell.signal });
        for (const { line } of page.entries) {
          if (options.json === true) await shell.print(line);
          else rows.push(entryRow(line));
        }
        left -= page.entries.length;
        pageToken = page.nextPageToken;
      } while (pageToken !== "" && left > 0);
    });
    if (options.json !== true) await shell.print(table(["TIME", "WHO", "WHAT", "OUTCOME", "REASON", "PURPOSE", "ITEMS"], rows));
  });
}

function filterOf(options: ListOptions): MessageInitShape<typeof AuditFilterSchema> {
  return {
    ...(options.from === undefined ? {} : { startTime: options.from }),
    ...(options.to === undefined ? {} : { endTime: options.to }),
    principal: options.principal ?? "",
    rpc: options.rpc ?? "",
    outcome: options.outcome ?? AuditOutcome.UNSPECIFIED,
    token: options.token ?? "",
    indexCode: options.indexCode ?? "",
    card: options.card ?? "",
  };
}

/** Columns of one entry. Entries that are no calls (starts, alerts, sums) name their kind. */
function entryRow(line: string): string[] {
  const entry = JSON.parse(line) as Record<string, unknown>;
  const text = (name: string): string => (typeof entry[name] === "string" ? entry[name] : "");
  const { resources, parts } = entry;
  const items = Array.isArray(resources) ? String(resources.length) : "";
  const what = text("rpc").replace(/^cardex\.v1\./, "") || text("kind");
  const who = text("principal").replace(/^spiffe:\/\/[^/]+\/tenant\//, "");
  return [text("time"), who, what, text("outcome"), text("reason"), text("purpose"), parts === undefined ? items : `${items} (part)`];
}

interface ExportOptions extends ConnectionOptions {
  readonly out: string;
  readonly from?: Timestamp;
  readonly to?: Timestamp;
  readonly force?: true;
}

function addExport(audit: Command, shell: Shell): void {
  const command = audit
    .command("export")
    .description(
      "Writes the log to a file, one line an entry exactly as it was hashed, and checks the chains on the way. The heads of the chains go to FILE.heads.json. When interrupted, the same command goes on where it stopped.",
    )
    .requiredOption("--out <file>", "where to")
    .option("--from <time>", "from this time on; default: from the beginning", moment)
    .option("--to <time>", "before this time; default: to now", moment)
    .option("--force", "start over and replace what is there")
    .addHelpText("after", "\nExample:\n  cardex audit export --out audit.jsonl && cardex audit verify audit.jsonl");
  withConnection(command, "auditor").action(async (options: ExportOptions) => {
    const summary = await withClient(options, (client) =>
      exportLog(client, {
        file: options.out,
        from: options.from,
        to: options.to,
        force: options.force ?? false,
        signal: shell.signal,
        note: (line) => shell.tell(line),
        tell: (problem) => shell.tell(problemLine(options.out, problem)),
      }),
    );
    const { entries, streams, problems } = summary;
    const verdict = problems === 0 ? "every chain verifies" : `${problems} problems`;
    await shell.print(options.json === true ? JSON.stringify({ ...summary, out: options.out }) : `${entries} entries of ${streams} streams in ${options.out}; ${verdict}`);
    shell.exitCode = problems === 0 ? exitCodes.ok : exitCodes.unverified;
  });
}

function addVerify(audit: Command, shell: Shell): void {
  audit
    .command("verify")
    .description(
      "Checks an export offline, without key or server: each line is canonical JSON (RFC 8785) and names the SHA-256 of the line before it in its stream; no sequence number is missing; the heads in FILE.heads.json are reached. Names each line that is wrong.",
    )
    .argument("<file>", "what cardex audit export wrote")
    .option("--json", "JSON, one object a line")
    .addHelpText("after", "\nExample:\n  cardex audit verify audit.jsonl")
    .action(async (file: string, options: { readonly json?: true }) => {
      let problems = 0;
      const tell = (problem: Parameters<typeof problemLine>[1]): void => {
        problems += 1;
        shell.tell(options.json === true ? JSON.stringify(problem) : problemLine(file, problem));
      };
      const end = await readHeads(headsFileOf(file));
      const verifier = await verifyFile(file, tell);
      for (const problem of verifier.finish(end)) tell(problem);
      const streams = verifier.streams();
      const entries = streams.reduce((sum, each) => sum + each.entries, 0);
      if (options.json === true) await shell.print(JSON.stringify({ entries, streams, problems, headsChecked: end !== undefined }));
      else {
        for (const { stream, firstSeq } of streams) {
          if (firstSeq !== 1) shell.tell(`stream ${stream} begins at entry ${firstSeq}; what it says of the entry before is taken as given`);
        }
        if (end === undefined) shell.tell(`no ${headsFileOf(file)}: a log that was cut off at its end would not be noticed`);
        await shell.print(`${entries} entries of ${streams.length} streams: ${problems === 0 ? "every chain verifies" : `${problems} problems`}`);
      }
      shell.exitCode = problems === 0 ? exitCodes.ok : exitCodes.unverified;
    });
}
