import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { z } from "zod";
import { CommandFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";
import { readKeptFile } from "./kept-file.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-kept-file-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const schema = z.strictObject({ version: z.literal(1) });
const read = (file: string) => readKeptFile(file, schema, (cause) => new CommandFailure(exitCodes.failed, "not of this form", cause));

it("gives what a file holds, and nothing where there is none", async () => {
  const file = join(folder, "good");
  await writeFile(file, '{"version":1}\n');
  expect(await read(file)).toEqual({ version: 1 });
  expect(await read(join(folder, "none"))).toBeUndefined();
});

it("tells a file that is cut off or of another form from one that can't be read", async () => {
  const file = join(folder, "wrong");
  for (const text of ["", '{"version":', '{"version":2}', '{"version":1,"more":1}']) {
    await writeFile(file, text);
    await expect(read(file), text).rejects.toMatchObject({ exitCode: exitCodes.failed, message: "not of this form" });
  }
  await expect(read(folder)).rejects.toMatchObject({ code: "EISDIR" });
});
