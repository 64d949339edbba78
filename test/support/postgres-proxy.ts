import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** What the proxy does to the next COMMIT. */
export type CommitFault =
  | "none"
  /** The connection breaks before PostgreSQL sees COMMIT. */
  | "lost-before"
  /** PostgreSQL commits; its answer is thrown away and the connection breaks. */
  | "lost-after"
  /** PostgreSQL commits; nothing more is heard from it, the connection stays open. */
  | "silent-after";

/** Stands between a writer and PostgreSQL and breaks a commit on demand: what a network does, at the moment that matters. */
export interface PostgresProxy {
  /** The given URL, through the proxy. */
  readonly url: string;
  /** Arms one fault for the next COMMIT of any connection. */
  arm(fault: CommitFault): void;
  /** COMMITs that were broken so far. */
  readonly broken: number;
  /** Refuses new connections and breaks those that are open, until `up` is called. */
  down(): void;
  /** Passes nothing on any more, not even an end, and keeps connections open: a machine that hangs. */
  hang(): void;
  /** From now on PostgreSQL refuses statements with this word, which it gets misspelt. */
  spoil(word: string): void;
  /** Ends `down`. */
  up(): void;
  close(): Promise<void>;
}

const commit = Buffer.from("COMMIT\0");

/** @param url a TCP URL */
export async function openProxy(url: string): Promise<PostgresProxy> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let armed: CommitFault = "none";
  let broken = 0;
  let isDown = false;
  let isHung = false;
  let spoiled: Buffer | undefined;
  const server = createServer((client) => {
    if (isDown) return void client.destroy();
    if (isHung) {
      sockets.add(client);
      client.on("error", () => undefined);
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    let deaf: CommitFault = "none";
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
      socket.on("error", () => undefined);
    }
    client.on("data", (data) => {
      if (armed !== "none" && data.includes(commit)) {
        deaf = armed;
        armed = "none";
        broken += 1;
        if (deaf === "lost-before") return void client.destroy();
      }
      const at = spoiled === undefined ? -1 : data.indexOf(spoiled);
      if (at >= 0) data[at] = "?".charCodeAt(0);
      upstream.write(data);
    });
    upstream.on("data", (data) => {
      if (deaf === "none") client.write(data);
      else if (deaf === "lost-after") client.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const through = new URL(url);
  through.hostname = "127.0.0.1";
  through.port = String((server.address() as AddressInfo).port);
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: through.href,
    arm: (fault) => {
      armed = fault;
    },
    get broken() {
      return broken;
    },
    down: () => {
      isDown = true;
      cut();
    },
    hang: () => {
      isHung = true;
      for (const socket of sockets) socket.pause();
    },
    spoil: (word) => {
      spoiled = Buffer.from(word);
    },
    up: () => {
      isDown = false;
    },
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
