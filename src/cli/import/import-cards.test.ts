import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { link, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CardBrand } from "../../../gen/cardex/v1/card_pb.js";
import { ItemErrorSchema, Reason } from "../../../gen/cardex/v1/reason_pb.js";
import { type TokenizeResponse, TokenizeResponseSchema } from "../../../gen/cardex/v1/token_service_pb.js";
import type { BatchResult } from "../transient.js";
import { beginImport } from "./begin.js";
import { openCardLines } from "./card-lines.js";
import { importCards } from "./import-cards.js";
import { Ledger } from "./ledger.js";
import { type ImportProgress, progressFileOf } from "./progress-file.js";
import { type CardRow, rowRequestId } from "./row.js";

// What is tested here is what import does with lines and files. A function stands for the server; nothing about the server is claimed.

let folder: string;
let input: string;
let out: string;
let rejects: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-import-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

let run = 0;
beforeEach(() => {
  run += 1;
  [input, out, rejects] = [join(folder, `${run}.csv`), join(folder, `${run}.tokens.csv`), join(folder, `${run}.rejects.csv`)];
});

/** Answers as a server would that knows each request_id: the same request gets the same token. */
class Answers {
  readonly #tokens = new Map<string, string>();
  calls = 0;
  /** The call that fails, and all after it. */
  failFrom = Number.POSITIVE_INFINITY;

  send(importId: string): (rows: readonly CardRow[]) => Promise<BatchResult<TokenizeResponse>[]> {
    return async (rows) => {
      this.calls += 1;
      if (this.calls >= this.failFrom) throw new Error("connection lost");
      return rows.map((row) => {
        if (row.pan.endsWith("7")) return { result: { case: "error", value: create(ItemErrorSchema, { code: status.INVALID_ARGUMENT, reason: Reason.INVALID_FIELD, message: "pan: fails the Luhn check" }) } };
        const id = rowRequestId(importId, row.line);
        const token = this.#tokens.get(id) ?? `tok_${this.#tokens.size}`;
        this.#tokens.set(id, token);
        const masked = { bin: row.pan.slice(0, 8), lastFour: row.pan.slice(-4), panLength: 16, brand: CardBrand.AMERICAN_EXPRESS };
        return { result: { case: "response", value: create(TokenizeResponseSchema, { token, indexCode: "1", masked, cardKnown: false }) } };
      });
    };
  }

  get tokensMade(): number {
    return this.#tokens.size;
  }
}

async function beginOnce(): Promise<ImportProgress> {
  return await beginImport({ input, out, rejects, force: false, meaning: {} });
}

async function importOnce(answers: Answers, { batch = 3, parallel = 2, force = false, file = input as string | undefined, meaning = {} } = {}): Promise<void> {
  const begin = await beginImport({ input: file ?? "-", out, rejects, force, meaning });
  const stdin = Readable.from([await readFile(input)]);
  const lines = await openCardLines({ file, stdin, delimiter: ",", names: {} }, begin);
  const ledger = await Ledger.open(out, rejects, begin, file === undefined ? undefined : progressFileOf(out));
  try {
    const signal = new AbortController().signal;
    await importCards({ lines, ledger, delimiter: ",", batch, parallel, send: answers.send(begin.importId), signal, advance: () => {} });
    await ledger.complete();
  } finally {
    await ledger.close();
  }
}

function cards(count: number): string {
  const rows = Array.from({ length: count }, (_, i) => `400000000000${String(i).padStart(4, "0")},2030-12,A CARDHOLDER,ref-${i}\n`);
  return `pan,expiry,cardholder_name,external_reference\n${rows.join("")}`;
}

async function rowsOf(file: string): Promise<Record<string, string>[]> {
  return parse(await readFile(file), { columns: true });
}

describe("an import", () => {
  it("writes tokens in the order of the input, rejects with line and reason, and nothing of a row but its reference", async () => {
    await writeFile(
      input,
      '\ufeffPAN,Expiry,cardholder_name,external_reference\r\n4111111111111111,12/30,"Doe, Jo",a\r\n\r\n4111 1111,12/30,,b\n4111111111111117,12/30,,c\n4111111111111111,13/30,,d\n"4111111111111111,12/30,,e\n4111111111111111,12/30\n4111111111111111,2031-01,,f',
    );
    await importOnce(new Answers());
    expect(await rowsOf(out)).toEqual([
      { line: "2", external_reference: "a", token: "tok_0", index_code: "1", bin: "41111111", last_four: "1111", brand: "american-express", card_known: "false" },
      { line: "9", external_reference: "f", token: "tok_1", index_code: "1", bin: "41111111", last_four: "1111", brand: "american-express", card_known: "false" },
    ]);
    expect((await rowsOf(rejects)).map(({ line, reason, field }) => [line, reason, field])).toEqual([
      ["4", "INVALID_FIELD", "pan"],
      ["5", "INVALID_FIELD", ""],
      ["6", "INVALID_FIELD", "expiry"],
      ["7", "INVALID_FIELD", ""],
      ["8", "INVALID_FIELD", ""],
    ]);
    const written = (await readFile(out, "utf8")) + (await readFile(rejects, "utf8"));
    expect(written).not.toMatch(/4111111111111111|4111 1111|Doe/);
    await expect(stat(progressFileOf(out))).rejects.toThrow("ENOENT");
  });

  it("rejects a line that holds two records, rather than lose the second", async () => {
    await writeFile(input, "pan,expiry\n4111111111111111,12/30\r5555555555554444,12/30\n4111111111111111,12/30\r\r\n");
    await importOnce(new Answers());
    expect((await rowsOf(rejects)).map(({ line }) => line)).toEqual(["2"]);
    expect((await rowsOf(out)).map(({ line }) => line)).toEqual(["3"]);
  });

  it("that is interrupted at any call goes on to the same output, and makes no token twice that it has a row for", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4 }), async (failFrom, batch, parallel) => {
        run += 1;
        [input, out, rejects] = [join(folder, `${run}.csv`), join(folder, `${run}.tokens.csv`), join(folder, `${run}.rejects.csv`)];
        await writeFile(input, cards(30));
        const answers = new Answers();
        answers.failFrom = failFrom;
        await importOnce(answers, { batch, parallel }).catch((error: Error) => expect(error.message).toBe("connection lost"));
        answers.failFrom = Number.POSITIVE_INFINITY;
        const stopped = await stat(progressFileOf(out)).then(
          () => true,
          () => false,
        );
        // What a killed process leaves behind its last good point.
        if (stopped) await writeFile(out, "29,half a li", { flag: "a" });
        if (stopped) await importOnce(answers, { batch, parallel });
        const [tokens, rejected] = [await rowsOf(out), await rowsOf(rejects)];
        expect(tokens.map(({ external_reference }) => external_reference)).toEqual(Array.from({ length: 30 }, (_, i) => i).filter((i) => i % 10 !== 7).map((i) => `ref-${i}`));
        expect(rejected.map(({ line }) => line)).toEqual(["9", "19", "29"]);
        expect(answers.tokensMade).toBe(27);
      }),
      { numRuns: 30 },
    );
  });

  it("reads stdin, without a progress file", async () => {
    await writeFile(input, cards(5));
    await importOnce(new Answers(), { file: undefined });
    expect(await rowsOf(out)).toHaveLength(5);
  });
});

describe("what is already there", () => {
  beforeEach(async () => {
    await writeFile(input, cards(9));
  });

  async function interrupted(meaning = {}): Promise<Answers> {
    const answers = new Answers();
    answers.failFrom = 2;
    await expect(importOnce(answers, { parallel: 1, meaning })).rejects.toThrow("connection lost");
    answers.failFrom = Number.POSITIVE_INFINITY;
    return answers;
  }

  it("is not overwritten unless forced", async () => {
    await writeFile(out, "mine");
    await expect(importOnce(new Answers())).rejects.toThrow("exists already");
    expect(await readFile(out, "utf8")).toBe("mine");
    await importOnce(new Answers(), { force: true });
    expect(await rowsOf(out)).toHaveLength(8);
  });

  it.each([true, false])("is not overwritten where it is the input under another name, forced or not (%s)", async (force) => {
    const before = await readFile(input, "utf8");
    await link(input, out);
    await expect(importOnce(new Answers(), { force })).rejects.toThrow("is the input");
    expect(await readFile(input, "utf8")).toBe(before);
  });

  it("is not gone on with under other options, or after the input changed", async () => {
    const answers = await interrupted({ scope: "a" });
    await expect(importOnce(answers, { meaning: { scope: "b" } })).rejects.toThrow("other options");
    await utimes(input, 1, 1);
    await expect(importOnce(answers, { meaning: { scope: "a" } })).rejects.toThrow("changed since the import began");
  });

  it("is left to the run that came last", async () => {
    await interrupted();
    const [begin, again] = [await beginOnce(), await beginOnce()];
    const first = await Ledger.open(out, rejects, begin, progressFileOf(out));
    const second = await Ledger.open(out, rejects, again, progressFileOf(out));
    await expect(first.save()).rejects.toThrow("started again meanwhile");
    await second.save();
    await Promise.all([first.close(), second.close()]);
  });

  it("is not gone on with where it is shorter than it should be", async () => {
    const answers = await interrupted();
    await writeFile(out, "line\n");
    await expect(importOnce(answers)).rejects.toThrow("shorter than its progress file says");
  });

  it("is told of where the progress file is not one", async () => {
    await writeFile(progressFileOf(out), "{}");
    await expect(importOnce(new Answers())).rejects.toThrow("is not a progress file");
  });
});

describe("the header", () => {
  it.each([
    ["4111111111111111,12/30\n", 'must be a header with a column "pan"'],
    ["pan,name\n", 'needs a column "expiry"'],
    ["pan,pan,expiry\n", "two columns for pan"],
    ["", "no header line"],
    ["pan;expiry\n", "--delimiter"],
    ["pan,expiry\r4111111111111111,2035-12\r", "end with CR alone"],
  ])("%j is refused without repeating it", async (content, message) => {
    await writeFile(input, content);
    const error: unknown = await importOnce(new Answers()).catch((reason: unknown) => reason);
    expect(String(error)).toContain(message);
    expect(String(error)).not.toContain("4111");
  });
});

it("a row's request_id is a UUID that depends on the import and the line alone", () => {
  const [a, b] = ["7f3c2d7e-1111-4222-8333-444455556666", "7f3c2d7e-1111-4222-8333-444455556667"];
  expect(rowRequestId(a, 2)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(rowRequestId(a, 2)).toBe(rowRequestId(a, 2));
  expect(new Set([rowRequestId(a, 2), rowRequestId(a, 3), rowRequestId(b, 2)]).size).toBe(3);
});
