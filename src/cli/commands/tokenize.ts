import type { Command } from "commander";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { TokenFormat, TokenReuse, type TokenizeRequestSchema, type TokenizeResponse, TokenizeResponseSchema } from "../../../gen/cardex/v1/token_service_pb.js";
import type { CardexClient } from "../../client/client.js";
import { itemFailure } from "../../client/error.js";
import { duration, enumNames, enumValue, expiry, wholeNumber, type YearMonth } from "../arguments.js";
import { BatchReport } from "../batch-report.js";
import { usageFailure } from "../command-failure.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { answered, type Item, stdinItems } from "../items.js";
import { facts, jsonLine, maskedText, timeText } from "../output.js";
import { askHidden } from "../prompt.js";
import type { Shell } from "../shell.js";

/** Items of one BatchTokenize. */
const batchItems = 500;

interface TokenizeOptions extends ConnectionOptions {
  readonly expiry: YearMonth;
  readonly format?: TokenFormat;
  readonly keepLastFour?: true;
  readonly scope?: string;
  readonly reuse?: true;
  readonly ttl?: Duration;
  readonly maxUses?: number;
  readonly reference?: string;
}

/** `cardex tokenize`: PANs from stdin or a hidden prompt, never from the arguments, which other users of the machine can see. */
export function addTokenize(program: Command, shell: Shell): void {
  const command = program
    .command("tokenize")
    .summary("put a card number in, get a token")
    .description("Reads card numbers from stdin, one a line, or asks for one on the terminal without showing it. Never takes one as an argument.")
    .requiredOption("--expiry <YYYY-MM>", "expiry of the card, or of all that are read", expiry)
    .option("--format <format>", `form of the token: ${enumNames(TokenFormat).join(", ")}`, enumValue<TokenFormat>(TokenFormat))
    .option("--keep-last-four", "a numeric token that ends with the card's last four digits")
    .option("--scope <scope>", "merchant or requestor that the token is for")
    .option("--reuse", "the same card and scope give the same token again")
    .option("--ttl <span>", "time to live, for example 30d", duration)
    .option("--max-uses <n>", "number of times that the token detokenizes", wholeNumber(1, 1_000_000))
    .option("--reference <text>", "your own reference, kept with the token")
    .addHelpText(
      "after",
      "\nExamples:\n  cardex tokenize --expiry 2030-12\n  cardex tokenize --expiry 2030-12 --scope shop-1 --json < card-number.txt\n\nFiles of cards, with an expiry and a name each: cardex import --help",
    );
  command.allowExcessArguments();
  withConnection(command, "payment-gateway").action(async (options: TokenizeOptions) => {
    if (command.args.length > 0) throw usageFailure("card numbers are read from stdin or asked for, and never taken from the arguments, which other users of the machine can see");
    await withClient(options, (client) => tokenize(shell, client, options));
  });
}

async function tokenize(shell: Shell, client: CardexClient, options: TokenizeOptions): Promise<void> {
  const report = new BatchReport();
  for await (const group of cardNumbers(shell)) {
    const requests = group.map(({ text }) => requestFor(text, options));
    const { results } = await client.tokens.batchTokenize({ requests }, { signal: shell.signal });
    for (const [place, each] of answered(group, results)) {
      const { result } = each;
      if (result.case === "response") {
        report.succeeded();
        await show(shell, options, result.value);
      } else if (result.case === "error") report.failed(shell, place, itemFailure(result.value));
    }
  }
  if (report.items === 0) throw usageFailure("no card number on stdin");
  shell.exitCode = report.exitCode();
}

async function* cardNumbers(shell: Shell): AsyncGenerator<Item[], void, undefined> {
  if (shell.streams.stdin.isTTY !== true) {
    yield* stdinItems(shell, batchItems);
    return;
  }
  const pan = (await askHidden(shell, "Card number (not shown): ")).trim();
  if (pan !== "") yield [{ place: 1, text: pan }];
}

function requestFor(pan: string, options: TokenizeOptions): MessageInitShape<typeof TokenizeRequestSchema> {
  return {
    pan,
    expiry: options.expiry,
    externalReference: options.reference ?? "",
    options: {
      format: options.format ?? (options.keepLastFour === true ? TokenFormat.NUMERIC : TokenFormat.OPAQUE),
      keepLastFour: options.keepLastFour ?? false,
      scope: options.scope ?? "",
      reuse: options.reuse === true ? TokenReuse.SAME_CARD_AND_SCOPE : TokenReuse.ALWAYS_NEW,
      maxUses: options.maxUses ?? 0,
      ...(options.ttl === undefined ? {} : { ttl: options.ttl }),
    },
  };
}

/** On a terminal all that is known of it; in a pipe the token alone. */
async function show(shell: Shell, options: TokenizeOptions, answer: TokenizeResponse): Promise<void> {
  if (options.json === true) await shell.print(jsonLine(TokenizeResponseSchema, answer));
  else if (shell.streams.stdout.isTTY !== true) await shell.print(answer.token);
  else {
    await shell.print(
      facts([
        ["token", answer.token],
        ["index code", answer.indexCode],
        ["card", maskedText(answer.masked)],
        ["known before", answer.cardKnown ? "yes" : "no"],
        ["ends", timeText(answer.expireTime)],
      ]),
    );
  }
}
