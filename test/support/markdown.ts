import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { checkout } from "./checkout.js";

/** One fenced block. */
export interface Fence {
  /** The file, below the checkout. */
  readonly file: string;
  /** Line of the fence, from 1. */
  readonly line: number;
  /** The heading of level 2 above it. */
  readonly section: string;
  /** The first word after the fence: "sh", "text", ... */
  readonly language: string;
  /** What follows that word. */
  readonly note: string;
  readonly text: string;
}

/** A block of commands, with the output that is shown right after it. */
export interface CommandBlock extends Fence {
  /** Lines that its output holds, in this order; `…` stands for anything. */
  readonly shown: readonly string[];
}

/** Reads a file below the checkout. */
export function readDocument(file: string): string {
  return readFileSync(join(checkout, file), "utf8");
}

/** The fenced blocks of a Markdown file, in order. */
export function fencesOf(file: string): Fence[] {
  const fences: Fence[] = [];
  let section = "";
  let open: { line: number; language: string; note: string; lines: string[] } | undefined;
  for (const [i, line] of readDocument(file).split("\n").entries()) {
    const [, language = "", note = ""] = /^```(\S*) ?(.*)$/.exec(line) ?? [];
    if (open !== undefined && line === "```") {
      const { lines, ...rest } = open;
      fences.push({ file, section, ...rest, text: lines.join("\n") });
      open = undefined;
    } else if (open !== undefined) open.lines.push(line);
    else if (line.startsWith("```")) open = { line: i + 1, language, note, lines: [] };
    else if (line.startsWith("## ")) section = line.slice(3);
  }
  if (open !== undefined) throw new Error(`${file}:${open.line}: the block does not end`);
  return fences;
}

/** The blocks of commands of a file. */
export function commandsOf(file: string): CommandBlock[] {
  const fences = fencesOf(file);
  return fences.flatMap((fence, i): CommandBlock[] => {
    if (fence.language !== "sh") return [];
    const next = fences[i + 1];
    return [{ ...fence, shown: next?.language === "text" && next.note === "" ? next.text.split("\n") : [] }];
  });
}

/** The rows of the table whose first header cell is `head`, without header; each cell as it is written. */
export function tableOf(file: string, head: string): string[][] {
  const lines = readDocument(file).split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${head} |`));
  if (start === -1) throw new Error(`${basename(file)} has no table that begins with "${head}"`);
  const rows = lines.slice(start + 2);
  const end = rows.findIndex((line) => !line.startsWith("|"));
  return rows.slice(0, end).map((row) => row.slice(2, -2).split(/(?<!\\) \| /));
}

/** The words in backquotes of a text. */
export function codeWords(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
}
