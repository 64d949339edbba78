import { constants, type X509Certificate } from "node:crypto";
import type { AddressInfo, Socket } from "node:net";
import { createSecureContext, createServer, type SecureContextOptions, type Server as TlsServer, type TLSSocket } from "node:tls";
import { readIdentity } from "../access/identity.js";
import { chainOf, leadsTo, readCertificates } from "../access/trust.js";
import type { Journal } from "../audit/journal.js";
import type { Config } from "../config.js";
import type { Logger } from "../log.js";
import type { Metrics } from "../metrics.js";
import type { RaiseAlert } from "../alert.js";
import { WatchedFiles } from "../watched-files.js";
import { rememberPeer } from "./peer.js";

export interface TlsListenerOptions {
  readonly config: Pick<Config, "listen" | "tls" | "limits">;
  readonly journal: Pick<Journal, "refused">;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly alert: RaiseAlert;
  /** Takes an accepted connection; its peer can be found by `peerOf`. */
  readonly accept: (socket: TLSSocket) => void;
  /** How often the certificate files are looked at, milliseconds; default 1000. */
  readonly reload_ms?: number;
}

/** A certificate, key or CA file that can't be used; `message` says which and why. */
export class CertificateError extends Error {
  override readonly name = "CertificateError";
}

/**
 * The TLS side of the gRPC port: TLS 1.3 with a client certificate of our CAs that names a principal, or nothing. Sessions are not
 * resumed: a resumed one would come without its certificate. Refused handshakes are audited as sums.
 */
export class TlsListener {
  readonly #options: TlsListenerOptions;
  readonly #server: TlsServer;
  /** Open connections, with the certificates that each came with. */
  readonly #sockets = new Map<TLSSocket, readonly X509Certificate[]>();
  /** The clients' CAs as they are now. */
  #cas: readonly X509Certificate[] = [];
  /** A socket that was destroyed has forgotten its address. */
  readonly #addresses = new WeakMap<object, string>();
  #files: WatchedFiles | undefined;

  private constructor(options: TlsListenerOptions) {
    this.#options = options;
    const { limits } = options.config;
    this.#server = createServer({
      ...tlsRules,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ["h2"],
      handshakeTimeout: limits.handshake_ms,
      // A request in full, or nothing at all, is what a connection is for.
      noDelay: true,
      keepAlive: true,
    });
    this.#server.maxConnections = limits.connections;
    this.#server.on("connection", (raw: Socket) => this.#addresses.set(raw, raw.remoteAddress ?? "unknown"));
    this.#server.on("secureConnection", (socket) => this.#accept(socket));
    this.#server.on("tlsClientError", (error, socket) => {
      this.#refuse(this.#addressOf(socket), handshakeReason(error, socket));
      // Node leaves a socket open whose handshake took too long: it would hold one of the places for good.
      socket.destroy();
    });
    this.#server.on("drop", (data) => {
      options.journal.refused({ log: "system", what: "connections", address: data?.remoteAddress ?? "unknown" });
    });
  }

  /**
   * Reads the certificates and listens.
   * @throws CertificateError; an error with code EADDRINUSE or EACCES if the port can't be had
   */
  static async open(options: TlsListenerOptions): Promise<TlsListener> {
    const listener = new TlsListener(options);
    const { tls, listen } = options.config;
    const files = [tls.certFile, tls.keyFile, tls.clientCaFile];
    try {
      listener.#files = await WatchedFiles.open(files, ([cert, key, ca]) => listener.#use({ cert, key, ca }), {
        ...(options.reload_ms === undefined ? {} : { interval_ms: options.reload_ms }),
        onRefused: (error) => options.alert("certificates.refused", {}, error),
      });
      await new Promise<void>((resolve, reject) => {
        listener.#server.once("error", reject);
        listener.#server.listen(listen.port, listen.host, () => {
          listener.#server.removeListener("error", reject);
          resolve();
        });
      });
    } catch (error) {
      listener.#files?.close();
      if (error instanceof CertificateError || (error as NodeJS.ErrnoException).syscall === "listen") throw error;
      throw new CertificateError(`the TLS files can't be read: ${files.join(", ")}`, { cause: error });
    }
    listener.#server.on("error", (error) => options.log.error({ err: error }, "TLS listener failed"));
    return listener;
  }

  /** Where it listens. */
  get address(): AddressInfo {
    return this.#server.address() as AddressInfo;
  }

  /** Open connections. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Looks at the certificate files now. */
  async look(): Promise<void> {
    await this.#files?.look();
  }

  /** Takes no more connections. */
  close(): void {
    this.#files?.close();
    this.#server.close();
  }

  /** Ends the connections that are still open. */
  destroy(): void {
    for (const socket of this.#sockets.keys()) socket.destroy();
  }

  /** Takes the files into use. Connections whose certificate the CAs no longer stand for are ended, as those of a new handshake would be. */
  #use(context: SecureContextOptions): void {
    let cas: X509Certificate[];
    try {
      createSecureContext({ ...tlsRules, ...context });
      cas = readCertificates(String(context.ca));
      if (cas.length === 0) throw new Error("the CA file has no certificate in PEM");
    } catch (error) {
      throw new CertificateError("the server's certificate, its key or the client CAs can't be used together", { cause: error });
    }
    this.#server.setSecureContext({ ...tlsRules, ...context });
    this.#cas = cas;
    const untrusted = [...this.#sockets].filter(([, chain]) => !leadsTo(cas, chain));
    for (const [socket] of untrusted) socket.destroy();
    this.#options.log.info({ ended: untrusted.length }, "TLS certificates loaded");
  }

  #accept(socket: TLSSocket): void {
    const address = socket.remoteAddress ?? "unknown";
    const certificate = socket.getPeerX509Certificate();
    const chain = certificate === undefined ? [] : chainOf(certificate);
    this.#sockets.set(socket, chain);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", (error) => this.#options.log.debug({ err: error }, "connection failed"));
    const refused = this.#identify(socket, chain, address);
    if (refused === undefined) return this.#options.accept(socket);
    this.#refuse(address, refused);
    socket.destroy();
  }

  #identify(socket: TLSSocket, chain: readonly X509Certificate[], address: string): string | undefined {
    if (socket.isSessionReused()) return "SESSION_RESUMED";
    const [certificate] = chain;
    if (!socket.authorized || certificate === undefined) return "NO_CERTIFICATE";
    if (socket.alpnProtocol !== "h2") return "NO_ALPN";
    // The CAs may have changed since this handshake began.
    if (!leadsTo(this.#cas, chain)) return "CA_NOT_TRUSTED";
    const identity = readIdentity(certificate, this.#options.config.tls.trustDomain);
    if ("refused" in identity) return identity.refused;
    rememberPeer(socket, { identity, address });
    return undefined;
  }

  /** Where a failed handshake came from. Node keeps the TCP socket below a TLS socket as `_parent`, which is not documented. */
  #addressOf(socket: TLSSocket): string {
    const { _parent: below } = socket as unknown as { _parent?: object };
    return socket.remoteAddress ?? (below === undefined ? undefined : this.#addresses.get(below)) ?? "unknown";
  }

  #refuse(address: string, reason: string): void {
    this.#options.metrics.handshakeRefused(reason);
    this.#options.journal.refused({ log: "system", what: "handshake", address, reason });
  }
}

const tlsRules = { minVersion: "TLSv1.3", secureOptions: constants.SSL_OP_NO_TICKET } as const;

/** OpenSSL's reason for a handshake that failed, as a word: nothing of the other side's text. */
function handshakeReason(error: NodeJS.ErrnoException, socket: TLSSocket): string {
  // Node types it as an Error; it is the verification's code.
  const verification: unknown = socket.authorizationError;
  const code = typeof verification === "string" ? verification : error.code;
  return typeof code === "string" && /^[A-Z0-9_]{1,64}$/.test(code) ? code.replace(/^ERR_SSL_/, "") : "UNKNOWN";
}
