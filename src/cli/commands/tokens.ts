import type { Command } from "commander";
import { type Token, TokenFormat, TokenReuse, TokenSchema, TokenStatus } from "../../../gen/cardex/v1/token_service_pb.js";
import { wholeNumber } from "../arguments.js";
import { cardKey } from "../card-key.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { enumText, facts, jsonLine, table, timeText } from "../output.js";
import type { Shell } from "../shell.js";

/** `cardex tokens get` and `cardex tokens list`. */
export function addTokens(program: Command, shell: Shell): void {
  const tokens = program.command("tokens").summary("describe tokens").description("Describes tokens of your tenant, ended ones too. Never shows a card number.");
  withConnection(
    tokens
      .command("get")
      .description("Describes one token.")
      .argument("<token>")
      .addHelpText("after", "\nExample:\n  cardex tokens get tok_..."),
    "payment-gateway",
  ).action(async (token: string, options: ConnectionOptions) => {
    const answer = await withClient(options, (client) => client.tokens.getToken({ token }, { signal: shell.signal }));
    if (answer.token !== undefined) await shell.print(options.json === true ? jsonLine(TokenSchema, answer.token) : describe(answer.token));
  });
  withConnection(
    tokens
      .command("list")
      .description("Lists the tokens of a card, newest first.")
      .argument("<card>", "a token or an index code")
      .option("--scope <scope>", "only tokens of this scope")
      .option("--limit <n>", "at most so many", wholeNumber(1, 1_000_000), 100)
      .addHelpText("after", "\nExample:\n  cardex tokens list 4000011234567890"),
    "payment-gateway",
  ).action(async (card: string, options: ConnectionOptions & { readonly scope?: string; readonly limit: number }) => {
    const found: Token[] = [];
    await withClient(options, async (client) => {
      let pageToken = "";
      do {
        const request = { card: cardKey(card), scope: options.scope ?? "", pageSize: Math.min(1000, options.limit - found.length), pageToken };
        const page = await client.tokens.listTokens(request, { signal: shell.signal });
        found.push(...page.tokens);
        pageToken = page.nextPageToken;
      } while (pageToken !== "" && found.length < options.limit);
    });
    if (options.json === true) for (const token of found) await shell.print(jsonLine(TokenSchema, token));
    else await shell.print(table(["TOKEN", "STATUS", "SCOPE", "CREATED", "REFERENCE"], found.map(row)));
  });
}

function row(token: Token): string[] {
  return [token.token, enumText(TokenStatus, token.status), token.scope, timeText(token.createTime) ?? "", token.externalReference];
}

function describe(token: Token): string {
  return facts([
    ["token", token.token],
    ["status", enumText(TokenStatus, token.status)],
    ["format", enumText(TokenFormat, token.format)],
    ["reuse", enumText(TokenReuse, token.reuse)],
    ["scope", token.scope],
    ["reference", token.externalReference],
    ["index code", token.indexCode],
    ["created", timeText(token.createTime)],
    ["ends", timeText(token.expireTime)],
    ["revoked", timeText(token.revokeTime)],
    ["uses left", token.maxUses === 0 ? undefined : `${token.remainingUses} of ${token.maxUses}`],
  ]);
}
