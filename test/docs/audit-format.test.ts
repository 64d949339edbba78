import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { CardStatus, Purpose } from "../../src/client/index.js";
import { testCard } from "../../src/dev/test-cards.js";
import { startInstallation, type TestInstallation } from "../support/installation.js";
import { codeWords, readDocument, tableOf } from "../support/markdown.js";

let vault: TestInstallation;

beforeAll(async () => {
  vault = await startInstallation();
});

afterAll(async () => {
  await vault?.stop();
});

it("docs/audit.md names every field and every kind that entries have", async () => {
  await doAllKinds();
  const text = readDocument("docs/audit.md");
  const described = new Set([...tableOf("docs/audit.md", "field").flatMap(([names = ""]) => codeWords(names)), ...codeWords(text)]);
  for (const entry of await entries()) {
    for (const name of Object.keys(entry)) expect(described, `field ${name}`).toContain(name);
    for (const resource of (entry["resources"] ?? []) as object[]) for (const name of Object.keys(resource)) expect(described, `member ${name}`).toContain(name);
    expect(described, `kind ${String(entry["kind"])}`).toContain(entry["kind"]);
  }
});

it("docs/operations.md names every metric", async () => {
  const text = await new Promise<string>((resolve, reject) => {
    get({ host: "127.0.0.1", port: vault.server().probePort, path: "/metrics" }, (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("end", () => resolve(body));
    }).once("error", reject);
  });
  const names = [...text.matchAll(/^# TYPE (cardex_\S+)/gm)].map((match) => match[1] ?? "");
  expect(names.length).toBeGreaterThan(5);
  expect(tableOf("docs/operations.md", "metric").flatMap(([cell = ""]) => codeWords(cell)).toSorted()).toEqual(names.toSorted());
});

/** Calls that succeed, are denied, malformed, in parts; reading of the log; a handshake that is refused. */
async function doAllKinds(): Promise<void> {
  const gateway = await vault.client("payment-gateway");
  const { pan } = testCard(1);
  const { token, indexCode } = await gateway.tokens.tokenize({ pan, expiry: { year: 2035, month: 1 } });
  await gateway.tokens.detokenize({ token, purpose: Purpose.PAYMENT });
  await gateway.tokens.batchDetokenize({ purpose: Purpose.REFUND, items: Array.from({ length: 300 }, () => ({ token })) });
  await gateway.tokens.detokenize({ token: "x", purpose: Purpose.PAYMENT }).catch(() => {});
  const risk = await vault.client("risk-system");
  await risk.tokens.detokenize({ token, purpose: Purpose.PAYMENT }).catch(() => {});
  const operations = await vault.client("card-operations");
  await operations.cards.setCardStatus({ card: { key: { case: "token", value: token } }, status: CardStatus.FROZEN });
  await operations.cards.rotateIndexCode({ card: { key: { case: "token", value: token } } });
  const auditor = await vault.client("auditor");
  const filter = { principal: "spiffe://cardex.dev/tenant/demo/auditor", rpc: "cardex.v1.TokenService/Detokenize", token, indexCode, outcome: 1, startTime: { seconds: 1n }, endTime: { seconds: 4_000_000_000n } };
  await auditor.audit.listEntries({ filter });
  const stranger = connect({ host: "127.0.0.1", port: vault.server().port, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
  stranger.on("error", () => {});
  await new Promise((resolve) => stranger.once("close", resolve));
  // Sums are written once a second.
  while (!(await entries()).some((entry) => entry["kind"] === "refusals")) await sleep(100);
}

async function entries(): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: vault.database.adminUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ line: string }>("select line from cardex.audit_entries");
    return rows.map(({ line }) => JSON.parse(line) as Record<string, unknown>);
  } finally {
    await client.end();
  }
}
