import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { create, type DescMessage, type DescMethod, fromBinary, type Message, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { vi } from "vitest";
import { applyPolicy, defaultPolicy, grantRole, readPolicy } from "../../src/access/administration.js";
import { spiffeId } from "../../src/dev/certificates.js";
import { demoTenant, type Role, trustDomain } from "../../src/dev/installation.js";
import { pathOf } from "../../src/rpc/definition.js";
import { Database } from "../../src/store/database.js";
import { callBytes, callUnary, readRefusal, type RefusedCall, refusalOf } from "./edge-client.js";
import type { TestInstallation } from "./installation.js";

/** A certificate and its key, PEM. */
export interface KeyPair {
  readonly certPem: string;
  readonly keyPem: string;
}

/** How a call of any kind ended: its answers, or its refusal. */
export interface EndedCall {
  readonly code: string;
  readonly answers: readonly Message[];
  readonly refusal: RefusedCall | undefined;
}

/** One principal's connection: calls as they are on the wire, nothing repeated, nothing filled in. */
export class Caller {
  readonly client: Client;

  constructor(client: Client) {
    this.client = client;
  }

  /** @throws ServiceError */
  async call<M extends DescMethod>(method: M, request: MessageInitShape<M["input"]>, options: CallOptions = {}): Promise<MessageShape<M["output"]>> {
    return await callUnary(this.client, method, request, options);
  }

  /** The refusal that the call must end with. */
  async refused<M extends DescMethod>(method: M, request: MessageInitShape<M["input"]>, options: CallOptions = {}): Promise<RefusedCall> {
    return await refusalOf(callUnary(this.client, method, request, options));
  }

  /** Calls a path with bytes that need not be a message. @throws ServiceError */
  async bytes(path: string, bytes: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
    return await callBytes(this.client, path, bytes, options);
  }

  /** A call of an RPC of any kind, to its end, whatever that is. */
  async end(method: DescMethod, request: Message): Promise<EndedCall> {
    const answers: Message[] = [];
    try {
      for await (const bytes of this.#answers(method, toBinary(method.input as DescMessage, request))) answers.push(fromBinary(method.output, bytes));
      return { code: "OK", answers, refusal: undefined };
    } catch (error) {
      const refusal = readRefusal(error as ServiceError);
      return { code: refusal.code, answers, refusal };
    }
  }

  async *#answers(method: DescMethod, bytes: Uint8Array): AsyncGenerator<Buffer> {
    if (method.methodKind === "unary") return yield await this.bytes(pathOf(method), bytes);
    if (method.methodKind !== "server_streaming") throw new Error(`${method.name}: how is this kind called?`);
    const same = (value: Buffer): Buffer => value;
    for await (const answer of this.client.makeServerStreamRequest(pathOf(method), same, same, Buffer.from(bytes), new Metadata())) yield answer as Buffer;
  }
}

/** The API of an installation, for any principal. */
export class Api {
  readonly vault: TestInstallation;
  /** As the owner of the schema. */
  readonly owner: Database;
  readonly #clients: Client[] = [];
  readonly #authority: Buffer;

  private constructor(vault: TestInstallation, authority: Buffer) {
    this.vault = vault;
    this.#authority = authority;
    this.owner = new Database({ ...vault.database.service, url: vault.database.ownerUrl, role: "cardex_owner", pool: 2 });
  }

  static async of(vault: TestInstallation): Promise<Api> {
    return new Api(vault, await readFile(join(vault.layout.certificates, "ca.pem")));
  }

  /** The principal that has this role, and no other. */
  async as(role: Role, tenant = demoTenant): Promise<Caller> {
    const file = join(this.vault.layout.certificates, tenant === demoTenant ? role : `${tenant}-${role}`);
    const [certPem, keyPem] = await Promise.all([readFile(`${file}.pem`, "utf8"), readFile(`${file}.key`, "utf8")]);
    return this.with({ certPem, keyPem });
  }

  /** Whoever this certificate is of; undefined: without a certificate. */
  with(pair: KeyPair | undefined, server = 0): Caller {
    const own = pair === undefined ? [] : [Buffer.from(pair.keyPem), Buffer.from(pair.certPem)];
    const channel = credentials.createSsl(this.#authority, ...own);
    const client = new Client(`localhost:${this.vault.server(server).port}`, channel, { "grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0 });
    this.#clients.push(client);
    return new Caller(client);
  }

  /** A principal of this name that has no role: one of its own, or none. */
  async stranger(name: string, tenant = demoTenant): Promise<Caller> {
    return this.with(await this.vault.issue({ name, usage: "client", uris: [spiffeId(trustDomain, tenant, name)] }));
  }

  /** A new principal with this role, once the server knows it. */
  async principal(name: string, role: string, tenant = demoTenant): Promise<Caller> {
    await grantRole(this.owner, spiffeId(trustDomain, tenant, name), tenant, role);
    const caller = await this.stranger(name, tenant);
    await vi.waitFor(async () => await caller.bytes("/grpc.health.v1.Health/Check", Buffer.alloc(0)));
    return caller;
  }

  /** Adds rules to the default policy. Takes effect on every server within a second. @returns the policy's version */
  async addRules(lines: readonly string[]): Promise<number> {
    await applyPolicy(this.owner, `${await defaultPolicy()}\n${lines.join("\n")}\n`);
    return (await readPolicy(this.owner)).version;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.owner.close();
  }
}

/** A request of this RPC with these fields. */
export function requestOf<M extends DescMethod>(method: M, fields: MessageInitShape<M["input"]>): Message {
  return create(method.input as DescMessage, fields);
}
