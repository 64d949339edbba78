import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { issueCertificate, type KeyedCertificate, makeAuthority, makeRevocationList } from "../dev/certificates.js";
import { type Identity, readIdentity } from "./identity.js";
import { RevocationError, Revocations } from "./revocations.js";

let folder: string;
let authority: KeyedCertificate;
let client: KeyedCertificate;
let identity: Identity;
let files: { crlFile: string; caFile: string };
let warnings: unknown[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cardex-revocations-"));
  files = { crlFile: join(folder, "crl.pem"), caFile: join(folder, "ca.pem") };
  authority = await makeAuthority("revocation test CA");
  client = await issueCertificate(authority, { name: "client", usage: "client", uris: ["spiffe://cardex.test/tenant/acme/x"] });
  const read = readIdentity(new X509Certificate(client.certPem), "cardex.test");
  if ("refused" in read) throw new Error(read.refused);
  identity = read;
  await writeFile(files.caFile, authority.certPem);
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  warnings = [];
  await writeFile(files.crlFile, await makeRevocationList(authority, []));
});

async function open(): Promise<Revocations> {
  // Looked at by the tests themselves, not by a timer.
  return await Revocations.open({ ...files, interval_ms: 3_600_000, onWarning: (error) => warnings.push(error) });
}

test("a certificate is revoked as soon as a new list names it", async () => {
  const revocations = await open();
  expect(revocations.isRevoked(identity.issuer, identity.serial)).toBe(false);
  await writeFile(files.crlFile, await makeRevocationList(authority, [client.serial]));
  await revocations.look();
  expect(revocations.isRevoked(identity.issuer, identity.serial)).toBe(true);
  expect(revocations.isRevoked("CN=another CA", identity.serial)).toBe(false);
  revocations.close();
});

test.each([
  ["is no list", () => Promise.resolve("not a list")],
  ["is another CA's", async () => await makeRevocationList(await makeAuthority("another CA"), [])],
  ["is signed by a CA that only has the same name", async () => await makeRevocationList(await makeAuthority("revocation test CA"), [])],
])("a new list that %s is refused, and the old one stays", async (_name, make) => {
  await writeFile(files.crlFile, await makeRevocationList(authority, [client.serial]));
  const revocations = await open();
  await writeFile(files.crlFile, await make());
  await revocations.look();
  await revocations.look();
  expect(revocations.isRevoked(identity.issuer, identity.serial)).toBe(true);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toBeInstanceOf(RevocationError);
  revocations.close();
});

test("a list that should have been replaced is used, with a warning", async () => {
  await writeFile(files.crlFile, await makeRevocationList(authority, [client.serial], new Date(Date.parse("2020-01-01"))));
  const revocations = await open();
  expect(revocations.isRevoked(identity.issuer, identity.serial)).toBe(true);
  expect(warnings).toHaveLength(1);
  revocations.close();
});

test("a server without a usable list does not start", async () => {
  await writeFile(files.crlFile, "not a list");
  await expect(open()).rejects.toBeInstanceOf(RevocationError);
});
