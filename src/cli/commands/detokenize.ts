import type { Command } from "commander";
import { BatchDetokenizeResultSchema, Purpose } from "../../../gen/cardex/v1/token_service_pb.js";
import type { CardexClient } from "../../client/client.js";
import { itemFailure } from "../../client/error.js";
import { enumNames, enumValue, wholeNumber } from "../arguments.js";
import { BatchReport } from "../batch-report.js";
import { usageFailure } from "../command-failure.js";
import { compareFiles } from "../compare/compare-files.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { answered, argumentItems } from "../items.js";
import { jsonLine } from "../output.js";
import type { Shell } from "../shell.js";
import { patientRetries } from "../transient.js";

/** Items of one BatchDetokenize. */
const batchItems = 500;

interface DetokenizeOptions extends ConnectionOptions {
  readonly purpose: Purpose;
  readonly in?: string;
  readonly compare?: string;
  readonly rejects?: string;
  readonly column: readonly string[];
  readonly delimiter: string;
  readonly parallel: number;
}

/** `cardex detokenize`: prints PANs, or compares a whole import with its source without printing any. */
export function addDetokenize(program: Command, shell: Shell): void {
  const command = program
    .command("detokenize")
    .summary("get card numbers back, for a purpose")
    .description(
      "Prints the card number of each token, one a line, in order; an empty line where there is none. Tokens come from the arguments or from stdin, one a line. With --in and --compare it prints no card number: it detokenizes a whole file of tokens and compares with the file that was imported.",
    )
    .argument("[token...]", "tokens; none or -: from stdin")
    .requiredOption("--purpose <purpose>", `why: ${enumNames(Purpose).join(", ")}`, enumValue<Purpose>(Purpose))
    .optionsGroup("Comparing:")
    .option("--in <file>", "tokens, as cardex import wrote them")
    .option("--compare <file>", "the CSV file that was imported")
    .option("--rejects <file>", "rows that were rejected; default: the file that cardex import writes beside the tokens, if it is there")
    .option("--column <field=name>", "column of the compared file, as for cardex import (repeatable)", collect, [])
    .option("--delimiter <character>", "separates the columns of the compared file", ",")
    .option("--parallel <n>", "batches under way at once", wholeNumber(1, 64), 4)
    .addHelpText(
      "after",
      "\nExamples:\n  cardex detokenize tok_... --purpose payment\n  cut -d, -f3 tokens.csv | tail -n +2 | cardex detokenize --purpose migration --json\n  cardex detokenize --in tokens.csv --purpose migration --compare cards.csv",
    );
  withConnection(command, "payment-gateway").action(async (tokens: string[], options: DetokenizeOptions) => {
    const { in: tokensFile, compare } = options;
    if ((tokensFile === undefined) !== (compare === undefined)) throw usageFailure("--in and --compare belong together; give both");
    if (tokensFile === undefined || compare === undefined) await withClient(options, (client) => detokenize(shell, client, tokens, options));
    else {
      const call = { signal: shell.signal, retries: patientRetries, deadline_ms: Math.max(120, options.timeout) * 1000 };
      await withClient(
        options,
        (client) =>
          compareFiles(shell, {
            ...options,
            tokensFile,
            cardsFile: compare,
            send: async (each) => (await client.tokens.batchDetokenize({ purpose: options.purpose, items: each.map((token) => ({ token })) }, call)).results,
          }),
        Math.min(4, options.parallel),
      );
    }
  });
}

async function detokenize(shell: Shell, client: CardexClient, tokens: readonly string[], options: DetokenizeOptions): Promise<void> {
  const report = new BatchReport();
  for await (const group of argumentItems(shell, tokens, batchItems)) {
    const request = { purpose: options.purpose, items: group.map(({ text }) => ({ token: text })) };
    const { results } = await client.tokens.batchDetokenize(request, { signal: shell.signal });
    for (const [place, each] of answered(group, results)) {
      if (each.result.case === "response") report.succeeded();
      else if (each.result.case === "error") report.failed(shell, place, itemFailure(each.result.value));
      if (options.json === true) await shell.print(jsonLine(BatchDetokenizeResultSchema, each));
      else await shell.print(each.result.case === "response" ? each.result.value.pan : "");
    }
  }
  if (report.items === 0) throw usageFailure("no token given, and none on stdin");
  shell.exitCode = report.exitCode();
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
