import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { TokenFormat, TokenReuse, type TokenOptionsSchema } from "../../../gen/cardex/v1/token_service_pb.js";
import type { CardexClient } from "../../client/client.js";
import { enumNames, enumValue, wholeNumber } from "../arguments.js";
import { usageFailure } from "../command-failure.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { exitCodes } from "../exit-codes.js";
import { beginImport } from "../import/begin.js";
import { openCardLines } from "../import/card-lines.js";
import { importFields, readColumnOptions } from "../import/columns.js";
import { importCards } from "../import/import-cards.js";
import { Ledger } from "../import/ledger.js";
import { Meter } from "../import/meter.js";
import { type ImportProgress, progressFileOf } from "../import/progress-file.js";
import { type CardRow, rowRequestId } from "../import/row.js";
import type { Shell } from "../shell.js";
import { patientRetries } from "../transient.js";

interface ImportOptions extends ConnectionOptions {
  readonly out: string;
  readonly rejects?: string;
  readonly format?: TokenFormat;
  readonly keepLastFour?: true;
  readonly scope?: string;
  readonly reuse?: true;
  readonly batch: number;
  readonly parallel: number;
  readonly column: readonly string[];
  readonly delimiter: string;
  readonly force?: true;
}

/** `cardex import`: a file of cards becomes a file of tokens. */
export function addImport(program: Command, shell: Shell): void {
  const command = program
    .command("import")
    .summary("tokenize a file of cards")
    .description(
      `Tokenizes a CSV file of any size. The first line names the columns: ${importFields.join(", ")}. A record is one line. Rows that can't be taken go to the rejects file with line number and reason. Never writes a card number. When interrupted, the same command goes on where it stopped and makes nothing twice, for up to 24 hours.`,
    )
    .argument("<file>", "CSV file; - reads stdin, without going on after an interruption")
    .requiredOption("--out <file>", "tokens, as CSV")
    .option("--rejects <file>", "rows that were rejected; default: the output's name and .rejects.csv")
    .option("--format <format>", `form of the tokens: ${enumNames(TokenFormat).join(", ")}`, enumValue<TokenFormat>(TokenFormat))
    .option("--keep-last-four", "numeric tokens that end with the card's last four digits")
    .option("--scope <scope>", "merchant or requestor that the tokens are for")
    .option("--reuse", "the same card and scope give the same token again")
    .option("--column <field=name>", "name of a column in the file (repeatable)", (pair: string, before: readonly string[]) => [...before, pair], [])
    .option("--delimiter <character>", "separates columns", ",")
    .option("--batch <n>", "rows of one call", wholeNumber(1, 1000), 500)
    .option("--parallel <n>", "calls under way at once", wholeNumber(1, 64), 4)
    .option("--force", "start over and replace what is there")
    .addHelpText("after", "\nExamples:\n  cardex import cards.csv --out tokens.csv\n  cardex import cards.csv --out tokens.csv --column pan=card_number --scope shop-1 --reuse");
  withConnection(command, "payment-gateway").action(async (input: string, options: ImportOptions) => {
    if (options.delimiter.length !== 1 || options.delimiter === '"') throw usageFailure("--delimiter: must be one character, and not a quote");
    await withClient(options, (client) => runImport(shell, client, input, options), Math.min(4, options.parallel));
  });
}

async function runImport(shell: Shell, client: CardexClient, input: string, options: ImportOptions): Promise<void> {
  const names = readColumnOptions(options.column);
  const tokenOptions = tokenOptionsOf(options);
  const rejects = options.rejects ?? `${options.out}.rejects.csv`;
  const meaning = { names, tokenOptions, delimiter: options.delimiter, rejects };
  const begin = await beginImport({ input, out: options.out, rejects, force: options.force ?? false, meaning });
  const file = input === "-" ? undefined : input;
  const lines = await openCardLines({ file, stdin: shell.streams.stdin as AsyncIterable<Uint8Array>, delimiter: options.delimiter, names }, begin);
  const ledger = await Ledger.open(options.out, rejects, begin, file === undefined ? undefined : progressFileOf(options.out));
  const meter = new Meter(shell, file === undefined ? undefined : begin.input.size_bytes, begin.bytes);
  if (begin.lines > 0) shell.tell(`going on after line ${begin.lines}`);
  const send = async (rows: readonly CardRow[]) => {
    const requests = rows.map(({ line, ...card }) => ({ ...card, requestId: rowRequestId(begin.importId, line), options: tokenOptions }));
    const call = { signal: shell.signal, retries: patientRetries, deadline_ms: Math.max(120, options.timeout) * 1000 };
    return (await meter.patiently(client.tokens.batchTokenize({ requests }, call))).results;
  };
  try {
    await importCards({ ...options, lines, ledger, send, signal: shell.signal, advance: (rows, bytes) => meter.advance(rows, bytes) });
    await ledger.complete();
  } catch (error) {
    meter.stop();
    const { lines: done } = ledger.progress;
    if (file !== undefined) shell.tell(`stopped after line ${done}; the same command goes on from there`);
    throw error;
  } finally {
    meter.stop();
    await ledger.close();
  }
  await summarize(shell, ledger.progress, meter.rate, options, rejects);
}

async function summarize(shell: Shell, progress: Readonly<ImportProgress>, rate: number, options: ImportOptions, rejects: string): Promise<void> {
  const { newCards, knownCards, rejected } = progress;
  const rows = newCards + knownCards + rejected;
  if (options.json === true) await shell.print(JSON.stringify({ rows, newCards, knownCards, rejected, rowsPerSecond: rate, out: options.out, ...(rejected > 0 ? { rejects } : {}) }));
  else {
    const where = rejected > 0 ? ` (see ${rejects})` : "";
    await shell.print(`${rows} rows: ${newCards} new cards, ${knownCards} known cards, ${rejected} rejected${where}; ${rate} rows/s; tokens in ${options.out}`);
  }
  shell.exitCode = rejected > 0 ? exitCodes.someRejected : exitCodes.ok;
}

function tokenOptionsOf(options: ImportOptions): MessageInitShape<typeof TokenOptionsSchema> {
  return {
    format: options.format ?? (options.keepLastFour === true ? TokenFormat.NUMERIC : TokenFormat.OPAQUE),
    keepLastFour: options.keepLastFour ?? false,
    scope: options.scope ?? "",
    reuse: options.reuse === true ? TokenReuse.SAME_CARD_AND_SCOPE : TokenReuse.ALWAYS_NEW,
  };
}
