import { type ChannelCredentials, type ChannelOptions, Client, credentials } from "@grpc/grpc-js";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";

/** Where the server is, and who calls. */
export interface ConnectOptions {
  /** `host:port`. */
  readonly address: string;
  /** The CA of the server's certificate: PEM, or the path of a PEM file. */
  readonly ca: string | Uint8Array;
  /** The client's certificate with its intermediates: PEM, or the path of a PEM file. */
  readonly cert: string | Uint8Array;
  /** The client's private key: PEM, or the path of a PEM file. */
  readonly key: string | Uint8Array;
  /** Name that the server's certificate must have, where it is not the host of `address`. */
  readonly serverName?: string;
  /** Connections, 1 to 64; calls take turns on them. Default 1; a few help where several server processes share a port. */
  readonly connections?: number;
}

/** Connection options that can't be used; the message names the one, never its content. */
export class ConnectError extends Error {
  override readonly name = "ConnectError";
}

/** The connections of one client. They are made when the first call needs them, and made again when they break. */
export class Channels {
  readonly #clients: readonly Client[];
  #next = 0;

  private constructor(clients: readonly Client[]) {
    this.#clients = clients;
  }

  /** @throws ConnectError */
  static async open(options: ConnectOptions): Promise<Channels> {
    const count = options.connections ?? 1;
    if (!Number.isInteger(count) || count < 1 || count > 64) throw new ConnectError("connections: must be a whole number from 1 to 64");
    if (!/^\S+:\d{1,5}$/.test(options.address)) throw new ConnectError("address: must be host:port");
    const tls = await tlsCredentials(options);
    const channelOptions: ChannelOptions = {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      "grpc.max_reconnect_backoff_ms": 5000,
      // A page of 1,000 audit entries of 16 KiB.
      "grpc.max_receive_message_length": 32 * 1024 * 1024,
      ...(options.serverName === undefined
        ? {}
        : { "grpc.ssl_target_name_override": options.serverName, "grpc.default_authority": options.serverName }),
    };
    return new Channels(Array.from({ length: count }, () => new Client(options.address, tls, channelOptions)));
  }

  /** The connection whose turn it is. */
  next(): Client {
    const client = this.#clients[this.#next];
    this.#next = (this.#next + 1) % this.#clients.length;
    if (client === undefined) throw new Error("unreachable: there is at least one connection");
    return client;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

async function tlsCredentials(options: ConnectOptions): Promise<ChannelCredentials> {
  const [ca, cert, key] = await Promise.all([readPem("ca", options.ca), readPem("cert", options.cert), readPem("key", options.key)]);
  try {
    return credentials.createFromSecureContext(createSecureContext({ ca, cert, key, minVersion: "TLSv1.3" }));
  } catch (error) {
    throw new ConnectError("ca, cert and key: must be PEM, and the key must be the certificate's", { cause: error });
  }
}

async function readPem(what: string, value: string | Uint8Array): Promise<Buffer> {
  if (typeof value !== "string") return Buffer.from(value);
  if (value.startsWith("-----BEGIN ")) return Buffer.from(value);
  try {
    return await readFile(value);
  } catch (error) {
    throw new ConnectError(`${what}: ${value} can't be read (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, { cause: error });
  }
}
