import type { CommandBlock } from "../support/markdown.js";

/** The documents whose commands are run, in the order in which a reader meets them. */
export const documents = ["README.md", "docs/audit.md", "docs/policy.md", "docs/operations.md", "docs/releasing.md", "docs/architecture.md"] as const;

/** Whether a block is about an installation of one's own and not about that of `npm start`: it is rehearsed in production.test.ts. */
export function isRehearsed({ file, section }: CommandBlock): boolean {
  return file === "docs/operations.md" || section === "Running it in production";
}
