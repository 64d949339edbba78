import type { Command } from "commander";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { type Card, CardSchema, CardStatus } from "../../../gen/cardex/v1/card_pb.js";
import { BatchGetCardsResultSchema, RotateIndexCodeResponseSchema } from "../../../gen/cardex/v1/card_service_pb.js";
import { itemFailure } from "../../client/error.js";
import { duration, enumNames, enumValue, wholeNumber } from "../arguments.js";
import { BatchReport } from "../batch-report.js";
import { cardKey } from "../card-key.js";
import { usageFailure } from "../command-failure.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { answered, argumentItems } from "../items.js";
import { facts, jsonLine, maskedText, statusText, timeText } from "../output.js";
import type { Shell } from "../shell.js";

/** `cardex cards get`, `status` and `rotate`. */
export function addCards(program: Command, shell: Shell): void {
  const cards = program.command("cards").summary("ask and change the card index").description("The card index: what may be known of a card without its number.");
  addGet(cards, shell);
  addStatus(cards, shell);
  addRotate(cards, shell);
}

function addGet(cards: Command, shell: Shell): void {
  const command = cards
    .command("get")
    .description("Shows status and masked view of cards, as your role allows.")
    .argument("[card...]", "tokens or index codes; none or -: from stdin, one a line")
    .addHelpText("after", "\nExamples:\n  cardex cards get 4000011234567890\n  cardex cards get tok_... --json");
  withConnection(command, "risk-system").action(async (keys: string[], options: ConnectionOptions) => {
    const report = new BatchReport();
    await withClient(options, async (client) => {
      for await (const group of argumentItems(shell, keys, 500)) {
        const { results } = await client.cards.batchGetCards({ cards: group.map(({ text }) => cardKey(text)) }, { signal: shell.signal });
        for (const [place, each] of answered(group, results)) {
          if (each.result.case === "error") report.failed(shell, place, itemFailure(each.result.value));
          else report.succeeded();
          if (options.json === true) await shell.print(jsonLine(BatchGetCardsResultSchema, each));
          else if (each.result.case === "response" && each.result.value.card !== undefined) {
            await shell.print(describe(each.result.value.card, timeText(each.result.value.indexCodeExpireTime)));
          }
        }
      }
    });
    if (report.items === 0) throw usageFailure("no card given, and none on stdin");
    shell.exitCode = report.exitCode();
  });
}

interface StatusOptions extends ConnectionOptions {
  readonly comment?: string;
  readonly expectedVersion?: number;
}

function addStatus(cards: Command, shell: Shell): void {
  const names = enumNames(CardStatus).filter((name) => name !== "expired");
  const command = cards
    .command("status")
    .description("Changes a card's status. Takes effect on every server at once.")
    .argument("<card>", "a token or an index code")
    .argument("<status>", names.join(", "), enumValue<CardStatus>(CardStatus, names))
    .option("--comment <text>", "why, for the audit log")
    .option("--expected-version <n>", "only if the card is at this version", wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .addHelpText("after", '\nExample:\n  cardex cards status tok_... lost --comment "reported by phone"');
  withConnection(command, "card-operations").action(async (card: string, status: CardStatus, options: StatusOptions) => {
    const request = { card: cardKey(card), status, comment: options.comment ?? "", expectedVersion: BigInt(options.expectedVersion ?? 0) };
    const answer = await withClient(options, (client) => client.cards.setCardStatus(request, { signal: shell.signal }));
    if (answer.card !== undefined) await shell.print(options.json === true ? jsonLine(CardSchema, answer.card) : describe(answer.card));
  });
}

function addRotate(cards: Command, shell: Shell): void {
  const command = cards
    .command("rotate")
    .description("Gives a card a new index code. The old one answers for a grace period, then never again.")
    .argument("<card>", "a token or an index code")
    .option("--grace <span>", "how long the old code goes on answering, 0s to 90d; default: the server's", duration)
    .addHelpText("after", "\nExample:\n  cardex cards rotate 4000011234567890 --grace 7d");
  withConnection(command, "card-operations").action(async (card: string, options: ConnectionOptions & { readonly grace?: Duration }) => {
    const request = { card: cardKey(card), ...(options.grace === undefined ? {} : { gracePeriod: options.grace }) };
    const answer = await withClient(options, (client) => client.cards.rotateIndexCode(request, { signal: shell.signal }));
    if (options.json === true) await shell.print(jsonLine(RotateIndexCodeResponseSchema, answer));
    else {
      await shell.print(
        facts([
          ["index code", answer.card?.indexCode],
          ["old code ends", timeText(answer.oldIndexCodeExpireTime)],
        ]),
      );
    }
  });
}

function describe(card: Card, codeEnds?: string): string {
  return facts([
    ["index code", card.indexCode],
    ["this code ends", codeEnds],
    ["status", statusText(card.status)],
    ["card", maskedText(card.masked)],
    ["version", String(card.version)],
    ["created", timeText(card.createTime)],
    ["updated", timeText(card.updateTime)],
  ]);
}
