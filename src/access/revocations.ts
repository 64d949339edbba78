import "reflect-metadata";
import { PemConverter, X509Certificate, X509Crl } from "@peculiar/x509";
import { clock } from "../clock.js";
import { WatchedFiles } from "../watched-files.js";
import { canonicalSerial } from "./identity.js";

/** A revocation list that can't be used; `message` says why. */
export class RevocationError extends Error {
  override readonly name = "RevocationError";
}

export interface RevocationsOptions {
  /** PEM: revocation lists, one for each CA. */
  readonly crlFile: string | undefined;
  /** PEM: the CAs; each list must be signed by one of them. */
  readonly caFile: string;
  /** How often the files are looked at, milliseconds; default 1000. */
  readonly interval_ms?: number;
  /** Told of a new list that can't be used (the old one stays), and of one whose next update is past. */
  readonly onWarning: (error: unknown) => void;
}

/** The certificates that the clients' CAs have revoked, from a file that is read again when it changes (RFC 5280 5). */
export class Revocations {
  #byIssuer: ReadonlyMap<string, ReadonlySet<string>> = new Map();
  #files: WatchedFiles | undefined;

  private constructor() {}

  /** @throws RevocationError if there is a file and it can't be used */
  static async open(options: RevocationsOptions): Promise<Revocations> {
    const revocations = new Revocations();
    if (options.crlFile === undefined) return revocations;
    const { crlFile, onWarning } = options;
    const use = async ([crls, cas]: readonly Buffer[]): Promise<void> => {
      revocations.#byIssuer = await readLists(crls?.toString("utf8") ?? "", cas?.toString("utf8") ?? "", onWarning);
    };
    try {
      revocations.#files = await WatchedFiles.open([crlFile, options.caFile], use, {
        ...(options.interval_ms === undefined ? {} : { interval_ms: options.interval_ms }),
        onRefused: onWarning,
      });
    } catch (error) {
      throw error instanceof RevocationError ? error : new RevocationError("the revocation list can't be read", { cause: error });
    }
    return revocations;
  }

  /** @param serial lower-case hex without leading zeros */
  isRevoked(issuer: string, serial: string): boolean {
    return this.#byIssuer.get(issuer)?.has(serial) ?? false;
  }

  /** Looks at the files now. */
  async look(): Promise<void> {
    await this.#files?.look();
  }

  close(): void {
    this.#files?.close();
  }
}

async function readLists(crlPem: string, caPem: string, onWarning: (error: unknown) => void): Promise<Map<string, Set<string>>> {
  const cas = parse(() => PemConverter.decode(caPem).map((der) => new X509Certificate(der)), "the CA file can't be read");
  const crls = parse(() => PemConverter.decode(crlPem).map((der) => new X509Crl(der)), "the revocation list is not PEM, or not a list");
  // A file that was cut short must not read as "nobody is revoked".
  if (crls.length === 0) throw new RevocationError("the file has no revocation list in PEM");
  const lists = new Map<string, Set<string>>();
  for (const crl of crls) {
    const ca = cas.find((each) => each.subject === crl.issuer);
    if (ca === undefined) throw new RevocationError(`the revocation list of ${crl.issuer} is of none of the CAs`);
    if (!(await crl.verify({ publicKey: ca }))) throw new RevocationError(`the revocation list of ${crl.issuer} has a wrong signature`);
    if (crl.nextUpdate !== undefined && crl.nextUpdate.getTime() < clock.now_ms())
      onWarning(new RevocationError(`the revocation list of ${crl.issuer} should have been replaced by ${crl.nextUpdate.toISOString()}`));
    const serials = lists.get(crl.issuer) ?? new Set<string>();
    for (const entry of crl.entries) serials.add(canonicalSerial(entry.serialNumber));
    lists.set(crl.issuer, serials);
  }
  return lists;
}

function parse<T>(read: () => T, message: string): T {
  try {
    return read();
  } catch (error) {
    throw new RevocationError(message, { cause: error });
  }
}
