import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { issueCertificate, makeAuthority, spiffeId } from "../dev/certificates.js";
import { checkOwnCertificate } from "./own-certificate.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-own-certificate-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const day_ms = 86_400_000;

async function fileOf(request: Partial<Parameters<typeof issueCertificate>[1]>): Promise<string> {
  const file = join(folder, "client.pem");
  const ca = await makeAuthority("test CA");
  await writeFile(file, (await issueCertificate(ca, { name: "client", usage: "client", uris: [spiffeId("cardex.dev", "demo", "auditor")], ...request })).certPem);
  return file;
}

it("a certificate that is good passes, and a file that is none is left to who connects", async () => {
  await checkOwnCertificate(await fileOf({}));
  await checkOwnCertificate(join(folder, "nowhere.pem"));
});

it("one that has expired, is not valid yet, or names no SPIFFE ID is told before the server refuses it without a word", async () => {
  const now = Date.now();
  const expired = { notBefore: new Date(now - 2 * day_ms), notAfter: new Date(now - day_ms) };
  await expect(fileOf(expired).then(checkOwnCertificate)).rejects.toMatchObject({ exitCode: 4, message: expect.stringContaining("expired on") as string });
  const early = { notBefore: new Date(now + day_ms), notAfter: new Date(now + 2 * day_ms) };
  await expect(fileOf(early).then(checkOwnCertificate)).rejects.toMatchObject({ exitCode: 4, message: expect.stringContaining("not valid before") as string });
  await expect(fileOf({ uris: [] }).then(checkOwnCertificate)).rejects.toMatchObject({ exitCode: 4, message: expect.stringContaining("no SPIFFE ID") as string });
});
