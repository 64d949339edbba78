import type { PeerCertificate, TLSSocket } from "node:tls";
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";
import type { Identity } from "../access/identity.js";

/** The other end of an accepted connection. */
export interface Peer {
  readonly identity: Identity;
  /** Remote IP address. */
  readonly address: string;
}

/** grpc-js hands a call its connection's peer certificate; that very object leads to what was read from it. */
const peers = new WeakMap<PeerCertificate, Peer>();

/**
 * Keeps the peer of a connection that was just accepted, before its socket goes to grpc-js. The certificate is read once:
 * `getPeerCertificate` costs about 20 µs, and grpc-js asks for it at each call.
 */
export function rememberPeer(socket: TLSSocket, peer: Peer): void {
  const certificate = socket.getPeerCertificate();
  Object.defineProperty(socket, "getPeerCertificate", { value: () => certificate });
  peers.set(certificate, peer);
}

/** The peer of a call; undefined for a connection that did not come through our own TLS. */
export function peerOf(call: Pick<ServerInterceptingCallInterface, "getAuthContext">): Peer | undefined {
  const certificate = call.getAuthContext().sslPeerCertificate;
  return certificate === undefined ? undefined : peers.get(certificate);
}
