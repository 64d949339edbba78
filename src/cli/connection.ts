import type { Command } from "commander";
import { join } from "node:path";
import { CardexClient } from "../client/client.js";
import { environment } from "../config.js";
import { wholeNumber } from "./arguments.js";
import { readClientProfile, type roleNames } from "../client/profile.js";
import { usageFailure } from "./command-failure.js";
import { checkOwnCertificate } from "./own-certificate.js";

/** What the options of `withConnection` give. */
export interface ConnectionOptions {
  readonly server?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly as: string;
  readonly config?: string;
  readonly state: string;
  readonly timeout: number;
  readonly json?: true;
}

/** Adds the options of a command that calls the API. `identity` is who calls where the user does not say. */
export function withConnection(command: Command, identity: (typeof roleNames)[number]): Command {
  return command
    .optionsGroup("Connection:")
    .option("--server <host:port>", "address of the server (or CARDEX_SERVER)")
    .option("--ca <file>", "PEM: CA of the server's certificate (or CARDEX_CA)")
    .option("--cert <file>", "PEM: client certificate (or CARDEX_CERT)")
    .option("--key <file>", "PEM: private key of the client certificate (or CARDEX_KEY)")
    .option("--as <identity>", "identity of the client profile", identity)
    .option("--config <file>", "client profile; default: client.json in the state folder")
    .option("--state <folder>", "state folder of a development set-up", ".cardex")
    .option("--timeout <seconds>", "time for one call with its repeats", wholeNumber(1, 3600), 10)
    .optionsGroup("Output:")
    .option("--json", "JSON, one object a line");
}

/** A client as the options, the environment and the profile say, in this order. @throws CommandFailure, ConnectError */
export async function connect(options: ConnectionOptions, connections = 1): Promise<CardexClient> {
  const named = {
    server: options.server ?? environment.get("CARDEX_SERVER"),
    ca: options.ca ?? environment.get("CARDEX_CA"),
    cert: options.cert ?? environment.get("CARDEX_CERT"),
    key: options.key ?? environment.get("CARDEX_KEY"),
  };
  if ((named.cert === undefined) !== (named.key === undefined)) throw usageFailure("--cert and --key belong together; give both");
  const complete = named.server !== undefined && named.ca !== undefined && named.cert !== undefined;
  const profile = complete ? undefined : await profileFor(options);
  const identity = named.cert === undefined ? profile?.identities[options.as] : { cert: named.cert, key: named.key ?? "" };
  if (identity === undefined) {
    const known = Object.keys(profile?.identities ?? {}).join(", ");
    throw usageFailure(`no identity "${options.as}" in ${profile?.file ?? "the client profile"}; it has: ${known}`);
  }
  await checkOwnCertificate(identity.cert);
  return CardexClient.connect({
    address: named.server ?? profile?.server ?? "",
    ca: named.ca ?? profile?.ca ?? "",
    ...identity,
    connections,
    deadline_ms: options.timeout * 1000,
  });
}

async function profileFor(options: ConnectionOptions) {
  const file = options.config ?? join(options.state, "client.json");
  const profile = await readClientProfile(file);
  if (profile === undefined) {
    throw usageFailure(`no client profile ${file}; give --server, --ca, --cert and --key, or start a development set-up with npm start`);
  }
  return profile;
}

/** Runs with a client and closes it. */
export async function withClient<T>(options: ConnectionOptions, work: (client: CardexClient) => Promise<T>, connections = 1): Promise<T> {
  const client = await connect(options, connections);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
