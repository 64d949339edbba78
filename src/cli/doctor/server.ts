import { request } from "node:http";
import { readFile } from "node:fs/promises";
import { connect } from "node:tls";
import type { Config } from "../../config.js";
import type { ClientProfile } from "../../client/profile.js";
import { fail, type Finding, ok, warn } from "./check.js";

const wait_ms = 5000;
const startIt = "start it: cardex serve, or, for a development set-up, npm start";

/** What the probe port says. A server that does not run is no fault of the set-up. */
export async function checkProbe(probe: Config["probe"]): Promise<readonly Finding[]> {
  const where = `http://${probe.host}:${probe.port}/readyz`;
  try {
    const { status, body } = await ask(where);
    if (status === 200) return [ok("server", `${where} says ready`)];
    return [fail("server", `${where} says ${status}: ${body.slice(0, 300)}`, "look at the server's log")];
  } catch (error) {
    return [warn("server", `does not run here (${error instanceof Error ? error.message : "no answer"})`, startIt)];
  }
}

/** Whether the API port can be reached with TLS 1.3, and shows a certificate that clients accept. */
export async function checkHandshake(profile: ClientProfile): Promise<readonly Finding[]> {
  const { hostname: host, port } = new URL(`tcp://${profile.server}`);
  const [identity] = Object.values(profile.identities);
  if (identity === undefined) return [warn("handshake", "the client profile names no identity", "make one: cardex certs")];
  const [ca, cert, key] = await Promise.all([readFile(profile.ca), readFile(identity.cert), readFile(identity.key)]);
  return await new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), ca, cert, key, ALPNProtocols: ["h2"], minVersion: "TLSv1.3" });
    const end = (finding: Finding): void => {
      socket.destroy();
      resolve([finding]);
    };
    socket.setTimeout(wait_ms, () => end(fail("handshake", `${profile.server} does not answer`, "check the address and the network between")));
    socket.once("secureConnect", () => end(ok("handshake", `${profile.server}, ${socket.getProtocol() ?? "TLS"}`)));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED") end(warn("handshake", `nothing listens on ${profile.server}`, startIt));
      else end(fail("handshake", error.message, "check the server's certificate against the client profile's CA"));
    });
  });
}

function ask(url: string): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(url, { timeout: wait_ms }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }));
    });
    call.once("timeout", () => call.destroy(new Error("no answer in time")));
    call.once("error", reject);
    call.end();
  });
}
