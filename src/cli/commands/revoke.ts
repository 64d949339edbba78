import type { Command } from "commander";
import { TokenSchema } from "../../../gen/cardex/v1/token_service_pb.js";
import { CardexError } from "../../client/error.js";
import { BatchReport } from "../batch-report.js";
import { usageFailure } from "../command-failure.js";
import { type ConnectionOptions, withClient, withConnection } from "../connection.js";
import { argumentItems } from "../items.js";
import { jsonLine, timeText } from "../output.js";
import type { Shell } from "../shell.js";

/** `cardex revoke`. */
export function addRevoke(program: Command, shell: Shell): void {
  const command = program
    .command("revoke")
    .summary("end tokens for good")
    .description("Revokes tokens. Revoking a revoked token changes nothing and succeeds.")
    .argument("[token...]", "tokens; none or -: from stdin")
    .addHelpText("after", "\nExample:\n  cardex revoke tok_...");
  withConnection(command, "payment-gateway").action(async (tokens: string[], options: ConnectionOptions) => {
    const report = new BatchReport();
    await withClient(options, async (client) => {
      for await (const group of argumentItems(shell, tokens, 100)) {
        for (const { place, text } of group) {
          try {
            const { token } = await client.tokens.revokeToken({ token: text }, { signal: shell.signal });
            report.succeeded();
            if (token === undefined) continue;
            await shell.print(options.json === true ? jsonLine(TokenSchema, token) : `revoked  ${timeText(token.revokeTime) ?? ""}`);
          } catch (error) {
            if (!(error instanceof CardexError) || shell.signal.aborted) throw error;
            report.failed(shell, place, error);
          }
        }
      }
    });
    if (report.items === 0) throw usageFailure("no token given, and none on stdin");
    shell.exitCode = report.exitCode();
  });
}
