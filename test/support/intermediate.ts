import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import type { KeyedCertificate } from "../../src/dev/certificates.js";

const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signingAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;

/** A CA of its own, and one that it has signed, which issues certificates. */
export async function makeIntermediate(): Promise<{ readonly root: KeyedCertificate; readonly intermediate: KeyedCertificate }> {
  const [rootKeys, keys] = await Promise.all([makeKeys(), makeKeys()]);
  const root = await x509.X509CertificateGenerator.createSelfSigned({ name: "CN=root of a chain", keys: rootKeys, signingAlgorithm, extensions: await extensionsOf(rootKeys) });
  const intermediate = await x509.X509CertificateGenerator.create({
    subject: "CN=intermediate CA",
    issuer: root.subject,
    publicKey: keys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm,
    extensions: [...(await extensionsOf(keys)), await x509.AuthorityKeyIdentifierExtension.create(root)],
  });
  return { root: await keyed(root, rootKeys), intermediate: await keyed(intermediate, keys) };
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
}

async function extensionsOf(keys: webcrypto.CryptoKeyPair): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
  ];
}

async function keyed(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair): Promise<KeyedCertificate> {
  const key = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { certPem: `${certificate.toString("pem")}\n`, keyPem: `${x509.PemConverter.encode(key, "PRIVATE KEY")}\n`, serial: certificate.serialNumber };
}
