import { createServer } from "node:net";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readIfThere, writeWhole } from "./files.js";
import { Obstacle } from "./obstacle.js";
import { freePort } from "./postgres.js";

/** Where things lie in a state folder. All paths are absolute. */
export interface StateLayout {
  readonly folder: string;
  readonly lock: string;
  /** Ports, chosen once. */
  readonly stateFile: string;
  /** Configuration of the server. */
  readonly configFile: string;
  /** Where clients find the server and their certificates. */
  readonly clientFile: string;
  readonly certificates: string;
  /** SoftHSM's token and its softhsm2.conf. */
  readonly hsm: string;
  readonly userPin: string;
  readonly securityOfficerPin: string;
  /** Password of the server's database login. */
  readonly databasePassword: string;
  /** URL that migrates and administers; the administrative commands read it. */
  readonly ownerUrl: string;
  readonly postgres: string;
  readonly serverLog: string;
  /** Which process the server is. */
  readonly serverProcess: string;
  readonly demonstration: string;
}

export function layoutOf(folder: string): StateLayout {
  const at = (...names: string[]): string => join(folder, ...names);
  return {
    folder,
    lock: at("start.lock"),
    stateFile: at("state.json"),
    configFile: at("cardex.json"),
    clientFile: at("client.json"),
    certificates: at("certs"),
    hsm: at("hsm"),
    userPin: at("secrets", "user.pin"),
    securityOfficerPin: at("secrets", "so.pin"),
    databasePassword: at("secrets", "database.password"),
    ownerUrl: at("secrets", "owner.url"),
    postgres: at("postgres"),
    serverLog: at("logs", "server.log"),
    serverProcess: at("server.process"),
    demonstration: at("demonstration"),
  };
}

/** Makes the folders. Others may pass through (PostgreSQL's own user has to), but see nothing. */
export async function makeFolders(layout: StateLayout): Promise<void> {
  await mkdir(layout.folder, { recursive: true, mode: 0o711 });
  for (const name of ["secrets", "logs", "demonstration"]) await mkdir(join(layout.folder, name), { recursive: true, mode: 0o700 });
}

const stateSchema = z.object({
  ports: z.object({ grpc: z.number().int(), probe: z.number().int(), postgres: z.number().int() }),
});

/** TCP ports on loopback. */
export type Ports = z.infer<typeof stateSchema>["ports"];

/** What the user asked for. */
export type WantedPorts = Readonly<{ [K in keyof Ports]?: number | undefined }>;

const preferred = { grpc: 7443, probe: 7480 };

/**
 * The ports of an installation: chosen at its first start (7443 and 7480 if they are free), kept from then on, changed by
 * asking for others.
 * @throws Obstacle if one that was kept or asked for is taken
 */
export async function choosePorts(layout: StateLayout, wanted: WantedPorts = {}): Promise<Ports> {
  const kept = readState(await readIfThere(layout.stateFile))?.ports;
  const ports: Ports = {
    grpc: wanted.grpc ?? kept?.grpc ?? (await freeOr(preferred.grpc)),
    probe: wanted.probe ?? kept?.probe ?? (await freeOr(preferred.probe)),
    postgres: wanted.postgres ?? kept?.postgres ?? (await freePort()),
  };
  await refuseTaken(ports.grpc, "--port");
  await refuseTaken(ports.probe, "--probe-port");
  await writeState(layout, ports);
  return ports;
}

/** Keeps the ports. */
export async function writeState(layout: StateLayout, ports: Ports): Promise<void> {
  await writeWhole(layout.stateFile, `${JSON.stringify({ ports }, undefined, 2)}\n`, 0o644);
}

/** A state file that is not one is made anew: nothing in it is worth more than a port number. */
function readState(text: string | undefined): z.infer<typeof stateSchema> | undefined {
  if (text === undefined) return undefined;
  try {
    return stateSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

async function freeOr(port: number): Promise<number> {
  return (await isFree(port)) ? port : await freePort();
}

async function refuseTaken(port: number, option: string): Promise<void> {
  if (!(await isFree(port))) {
    throw new Obstacle(`port ${port} on 127.0.0.1 is taken by another program: end it, or choose another port with "npm start -- ${option} <number>"`);
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else if (error.code === "EACCES") reject(new Obstacle(`port ${port} may only be used by root: choose one above 1023`, { cause: error }));
      else reject(error);
    });
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
