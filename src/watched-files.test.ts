import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WatchedFiles } from "./watched-files.js";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-watched-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

test("files are used again when any of them changes, also by a rename, and only then", async () => {
  const files = [join(folder, "a"), join(folder, "b")];
  for (const file of files) await writeFile(file, "1");
  const used: string[] = [];
  const refused: unknown[] = [];
  const watched = await WatchedFiles.open(files, (contents) => void used.push(contents.join("")), { interval_ms: 5, onRefused: (error) => refused.push(error) });
  await watched.look();
  expect(used).toEqual(["11"]);
  await writeFile(join(folder, "new"), "2");
  await rename(join(folder, "new"), join(folder, "b"));
  await vi.waitFor(() => expect(used).toEqual(["11", "12"]));
  await rm(join(folder, "a"));
  await vi.waitFor(() => expect(refused).toHaveLength(1));
  await writeFile(join(folder, "a"), "3");
  await vi.waitFor(() => expect(used.at(-1)).toBe("32"));
  await watched.look();
  expect(refused).toHaveLength(1);
  watched.close();
});

test("contents that are refused are refused once, and the first ones at once", async () => {
  const file = join(folder, "c");
  await writeFile(file, "good");
  const refused: unknown[] = [];
  const use = (contents: readonly Buffer[]): void => {
    if (contents.join("") !== "good") throw new Error("bad");
  };
  const watched = await WatchedFiles.open([file], use, { interval_ms: 5, onRefused: (error) => refused.push(error) });
  await writeFile(file, "bad");
  await vi.waitFor(() => expect(refused).toHaveLength(1));
  await watched.look();
  expect(refused).toHaveLength(1);
  watched.close();
  await expect(WatchedFiles.open([file], use, { onRefused: () => {} })).rejects.toThrow("bad");
});
