import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { readIdentity } from "../../access/identity.js";
import { clock } from "../../clock.js";
import type { Config } from "../../config.js";
import type { ClientProfile } from "../../client/profile.js";
import { fail, type Finding, findingsOf, ok, warn } from "./check.js";

const day_ms = 86_400_000;
/** Warn when a certificate has less time left. */
const renew_days = 30;

/** The server's certificate and key, and the CAs that clients' certificates are checked against. */
export async function checkServerCertificates(tls: Config["tls"]): Promise<readonly Finding[]> {
  return [
    ...(await findingsOf("server certificate", "tls.certFile and tls.keyFile must be readable PEM files", async () => {
      const certificate = new X509Certificate(await readFile(tls.certFile));
      if (!certificate.checkPrivateKey(createPrivateKey(await readFile(tls.keyFile)))) {
        return [fail("server certificate", "tls.keyFile is another certificate's key", "put the key beside the certificate that it was made with")];
      }
      return [dates("server certificate", certificate)];
    })),
    ...(await findingsOf("client CAs", "tls.clientCaFile must be a readable PEM file", async () => {
      const authorities = await readAll(tls.clientCaFile);
      if (authorities.length === 0) return [fail("client CAs", `${tls.clientCaFile} holds no certificate`, "put the CAs that issue client certificates there")];
      return authorities.map((each) => (each.ca ? dates(`client CA ${each.subject}`, each) : fail("client CAs", `${each.subject} is not a CA`, "remove it from tls.clientCaFile")));
    })),
  ];
}

/** The client certificates of a profile: dates, SPIFFE ID, and whether the server's CAs issued them. */
export async function checkClientCertificates(profile: ClientProfile, tls: Config["tls"]): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [name, { cert }] of Object.entries(profile.identities)) {
    const what = `client ${name}`;
    findings.push(
      ...(await findingsOf(what, "make it anew, for development with cardex certs", async () => {
        const certificate = new X509Certificate(await readFile(cert));
        const identity = readIdentity(certificate, tls.trustDomain);
        if ("refused" in identity) return [fail(what, `its certificate names no principal (${identity.refused})`, `it needs exactly one URI spiffe://${tls.trustDomain}/tenant/<tenant>/<name>`)];
        const issued = (await readAll(tls.clientCaFile)).some((authority) => certificate.verify(authority.publicKey));
        if (!issued) return [fail(what, "none of the server's client CAs issued its certificate", "issue it by one of them, or add its CA to tls.clientCaFile")];
        return [dates(what, certificate, identity.principal.id)];
      })),
    );
  }
  return findings;
}

function dates(what: string, certificate: X509Certificate, also?: string): Finding {
  const now_ms = clock.now_ms();
  const [from_ms, to_ms] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  if (now_ms < from_ms) return fail(what, `valid only from ${certificate.validFrom}`, "check the clock of this machine, or wait");
  if (now_ms > to_ms) return fail(what, `expired on ${certificate.validTo}`, "renew it");
  const left_days = Math.floor((to_ms - now_ms) / day_ms);
  const found = `${also === undefined ? "" : `${also}, `}valid for ${left_days} more days`;
  return left_days < renew_days ? warn(what, found, "renew it") : ok(what, found);
}

async function readAll(file: string): Promise<X509Certificate[]> {
  const blocks = (await readFile(file, "utf8")).match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}
