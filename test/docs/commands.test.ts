import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CheckoutCopy, copyCheckout } from "../support/checkout.js";
import { CommandSession, notShown, type Running } from "../support/command-session.js";
import { hasForeignTools, hasGoModules } from "../support/foreign-tools.js";
import { type CommandBlock, commandsOf, fencesOf } from "../support/markdown.js";
import { documents, isRehearsed } from "./documents.js";

const blocks = documents.flatMap(commandsOf).filter((block) => !isRehearsed(block));
/** What is shown once for all examples. */
const exampleOutput = fencesOf("README.md").find(({ language, note }) => language === "text" && note === "example")?.text.split("\n") ?? [];

let copy: CheckoutCopy;
/** One for each document: what a reader sets in one of them is not set in the next. */
const sessions = new Map<string, CommandSession>();
let vault: Running | undefined;

beforeAll(async () => {
  copy = await copyCheckout();
});

afterAll(async () => {
  await vault?.stop();
  for (const session of sessions.values()) await session.close();
  await copy.remove();
});

async function sessionOf(file: string): Promise<CommandSession> {
  const session = sessions.get(file) ?? (await CommandSession.open(copy.folder, (text) => text.replaceAll("localhost:7443", `localhost:${copy.ports.grpc}`)));
  sessions.set(file, session);
  return session;
}

function needsForeignTools({ text }: CommandBlock): boolean {
  return /protoc |payment\.py/.test(text);
}

/** `npm test` is what runs this. */
const itself = "npm test";

describe.sequential("the commands of the documents do what stands there", () => {
  it("every block of a document says what it is", () => {
    const known = ["sh", "text", "json", "csv", "sql", "js", "py", "go", "mermaid"];
    for (const { file, line, language } of documents.flatMap(fencesOf)) expect(known, `${file}:${line}`).toContain(language);
  });

  it("npx finds the command of the checkout", async () => {
    const { code, output } = await (await sessionOf("npx")).run("command npx cardex --version");
    expect(code, output).toBe(0);
    expect(output).toMatch(/^[0-9]+\.[0-9]+\.[0-9]+$/m);
  });

  for (const block of blocks) {
    const { file, line, text, note } = block;
    const name = `${file}:${line} ${text.split("\n")[0]}`;
    if (text === itself) continue;
    if (text === "npm start") {
      it(`${name} is the first of the two commands`, () => expect(blocks[0]).toBe(block));
      continue;
    }
    const missing = note === "go" && !hasGoModules ? " (not run: there is no Go here, or no modules for it)" : needsForeignTools(block) && !hasForeignTools ? " (not run: no protoc or no gRPC for Python here)" : "";
    it.skipIf(missing !== "")(name + missing, async () => {
      const session = await sessionOf(file);
      // What comes after the demonstration is typed while the vault is up.
      if (!text.startsWith("npm start")) vault ??= await session.start("npm start", (output) => output.includes("The vault stays up"));
      const { code, output } = await session.run(text);
      expect(code, output).toBe(0);
      const shown = text.includes("docs/examples/") && !text.includes("verify_chain") && text.match(/^(node|python3|go run)/m) !== null ? exampleOutput : block.shown;
      expect(notShown(output, shown), output).toEqual([]);
    });
  }

  it("Ctrl-C ends the vault in order", async () => {
    expect((await vault?.stop())?.code).toBe(0);
  });
});
