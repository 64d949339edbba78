import { existsSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../src/dev/postgres.js";

/** The checkout that these tests are of. */
export const checkout = fileURLToPath(new URL("../../../", import.meta.url));

/** A copy of the checkout in a temporary folder, built, with a state folder of its own. */
export interface CheckoutCopy {
  readonly folder: string;
  readonly ports: { readonly grpc: number; readonly probe: number };
  remove(): Promise<void>;
}

/** Copies the checkout as it is, dist/ included. The npm packages are linked one by one, so that nothing done to the copy reaches them. */
export async function copyCheckout(): Promise<CheckoutCopy> {
  const folder = await mkdtemp(join(tmpdir(), "cardex-copy-"));
  // As root PostgreSQL runs as another user, who has to get in.
  await chmod(folder, 0o711);
  await cp(checkout, folder, { recursive: true, filter: (path) => isCopied(relative(checkout, path)) });
  await linkPackages(join(checkout, "node_modules"), join(folder, "node_modules"));
  const ports = { grpc: await freePort(), probe: await freePort(), postgres: await freePort() };
  await mkdir(join(folder, ".cardex"), { mode: 0o711 });
  await writeFile(join(folder, ".cardex", "state.json"), JSON.stringify({ ports }));
  return { folder, ports, remove: () => rm(folder, { recursive: true, force: true }) };
}

function isCopied(path: string): boolean {
  const [top = ""] = path.split(sep);
  return ![".git", ".cardex", "node_modules"].includes(top) && !/^docs\/examples\/[a-z]+\/gen\b/.test(path);
}

async function linkPackages(from: string, to: string): Promise<void> {
  await mkdir(to);
  const names = (await readdir(from)).filter((name) => name !== ".cache" && name !== ".cardex-stamp");
  for (const name of names) await symlink(join(from, name), join(to, name));
  const stamp = join(from, ".cardex-stamp");
  if (existsSync(stamp)) await copyFile(stamp, join(to, ".cardex-stamp"));
}
