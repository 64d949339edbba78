import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { clock } from "../clock.js";
import { CommandFailure } from "./command-failure.js";
import { exitCodes } from "./exit-codes.js";

/**
 * Looks at the client's own certificate before the server does: a refused handshake tells the caller nothing, and would look like a server
 * that is away.
 * @throws CommandFailure if it is expired, not valid yet, or names no SPIFFE ID; a file that can't be read is told by who connects
 */
export async function checkOwnCertificate(file: string): Promise<void> {
  const certificate = await readCertificate(file);
  if (certificate === undefined) return;
  const now_ms = clock.now_ms();
  if (Date.parse(certificate.validTo) <= now_ms) throw refused(`the client certificate ${file} expired on ${certificate.validTo}; get a new one (for development: cardex certs)`);
  if (Date.parse(certificate.validFrom) > now_ms) throw refused(`the client certificate ${file} is not valid before ${certificate.validFrom}; is this machine's clock right?`);
  if (!/\bURI:"?spiffe:\/\//.test(certificate.subjectAltName ?? "")) {
    throw refused(`the client certificate ${file} names no SPIFFE ID (a URI spiffe://<trust domain>/tenant/<tenant>/<name>); the server takes no other`);
  }
}

async function readCertificate(file: string): Promise<X509Certificate | undefined> {
  try {
    return new X509Certificate(await readFile(file));
  } catch {
    // Missing or no PEM: connecting says so, with the file's name.
    return undefined;
  }
}

function refused(message: string): CommandFailure {
  return new CommandFailure(exitCodes.denied, message);
}
