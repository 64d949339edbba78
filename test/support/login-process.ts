import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Config } from "../../src/config.js";
import { StoredLoginGuard } from "../../src/keys/login-guard.js";
import { Database } from "../../src/store/database.js";

interface LoginOrder {
  readonly database: Config["database"];
  readonly tokenSerial: string;
}

/** Has another process log in to a token, and kills it in the middle of C_Login. Answers whether it was let through to that. */
export async function dieInLogin(database: Config["database"], tokenSerial: string): Promise<boolean> {
  const child: ChildProcess = fork(new URL(import.meta.url), { execArgv: [] });
  const exit = once(child, "exit");
  const order: LoginOrder = { database, tokenSerial };
  child.send(order);
  const [answer] = (await once(child, "message")) as ["trying" | "kept from it"];
  child.kill("SIGKILL");
  await exit;
  return answer === "trying";
}

function hang({ database, tokenSerial }: LoginOrder): void {
  const login = (): Promise<boolean> => {
    process.send?.("trying");
    return new Promise(() => undefined);
  };
  new StoredLoginGuard(new Database(database)).attempt(tokenSerial, login).catch(() => process.send?.("kept from it"));
}

// This file is also the program of that process.
if (process.argv[1] === fileURLToPath(import.meta.url)) process.on("message", (message) => hang(message as LoginOrder));
