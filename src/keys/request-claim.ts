import type { Hsm } from "../../hsm/hsm.js";
import type { Call } from "../call.js";
import { invalidField } from "../failure.js";
import type { Claim } from "../store/requests.js";
import type { KeyRing } from "./key-ring.js";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A request_id as callers send it: empty (none) or a UUID (AIP-155). @throws Failure INVALID_FIELD */
export function parseRequestId(text: string, field = "request_id"): string | undefined {
  if (text === "") return undefined;
  const lower = text.toLowerCase();
  if (!uuid.test(lower)) throw invalidField(field, "must be a UUID, for example made by uuidgen");
  return lower;
}

/**
 * Binds a request_id to what the request asks, by an HMAC in the HSM: a plain hash would be a hash of the PAN.
 * @param content everything that must be equal in a repeat, in a fixed form
 * @throws HsmError
 */
export async function makeClaim(hsm: Hsm, keys: KeyRing, call: Call, requestId: string, content: string): Promise<Claim> {
  const { tenant, id: principal } = call.principal;
  const mac = await hsm.mac(keys.request().key, Buffer.from(JSON.stringify([tenant, principal, call.rpc, requestId, content]), "utf8"));
  return { tenant, principal, rpc: call.rpc, requestId, mac: Buffer.from(mac) };
}
