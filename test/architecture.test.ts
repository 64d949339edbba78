import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/** Files that every room stands on. */
const ground = ["batcher", "call", "clock", "config", "failure", "log", "metrics", "secret", "watched-files"];

/** What each room may import besides itself, the ground and generated code. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  main: ["rpc", "vault", "cards", "audit", "access", "keys", "store", "hsm", "alert", "housekeeping"],
  rpc: ["vault", "cards", "audit", "access", "keys", "store", "hsm", "alert"],
  vault: ["cards", "audit", "keys", "store", "hsm"],
  cards: ["audit", "keys", "store", "hsm"],
  keys: ["audit", "store", "hsm"],
  access: ["audit", "store"],
  audit: ["store"],
  alert: ["audit"],
  housekeeping: ["keys", "store", "hsm"],
  store: [],
  hsm: [],
  client: [],
  cli: ["client", "audit", "access", "keys", "store", "hsm", "dev", "main"],
  dev: ["client", "cards", "access", "audit", "keys", "store", "hsm"],
};

interface Import {
  readonly file: string;
  readonly imported: string;
}

const sources = ["src", "hsm"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => join(folder, name)),
);

/** Every import of every source, type imports and dynamic ones included; relative ones as paths from the root. */
const imports = sources.flatMap((file): Import[] =>
  [...readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\(|import) ?"([^"]+)"/g)].map((match) => {
    const name = match[1] ?? "";
    return { file, imported: name.startsWith(".") ? relative(root, resolve(root, dirname(file), name)).replace(/\.js$/, ".ts") : name };
  }),
);

function roomOf(path: string): string {
  const [top = "", second = ""] = path.split("/");
  return top === "src" ? second.replace(/\.ts$/, "") : top;
}

describe("the house", () => {
  it("is read whole by this test", () => {
    expect(sources.length).toBeGreaterThan(100);
    expect(imports.length).toBeGreaterThan(400);
    expect(new Set(sources.map(roomOf))).toEqual(new Set([...Object.keys(arrows), ...ground]));
  });

  it("has arrows one way only", () => {
    const wrong = imports
      .filter(({ imported }) => imported.startsWith("src/") || imported.startsWith("hsm/"))
      .filter(({ file, imported }) => {
        const [from, to] = [roomOf(file), roomOf(imported)];
        return from !== to && !ground.includes(to) && !(arrows[from] ?? []).includes(to);
      });
    expect(wrong).toEqual([]);
  });

  it("has ground that stands on nothing above it", () => {
    const wrong = imports.filter(({ file, imported }) => ground.includes(roomOf(file)) && /^(src|hsm)\//.test(imported) && !ground.includes(roomOf(imported)));
    expect(wrong).toEqual([]);
  });

  it("has no circle of rooms", () => {
    const above = (room: string, seen: readonly string[]): string[] => {
      if (seen.includes(room)) return [...seen.slice(seen.indexOf(room)), room];
      for (const next of arrows[room] ?? []) {
        const circle = above(next, [...seen, room]);
        if (circle.length > 0) return circle;
      }
      return [];
    };
    // The command line starts the server, and no room imports the command line.
    for (const room of Object.keys(arrows)) expect(above(room, [])).toEqual([]);
  });

  it("knows PKCS#11 in hsm/ alone", () => {
    expect(imports.filter(({ file, imported }) => /^(graphene-pk11|pkcs11js)$/.test(imported) && !file.startsWith("hsm/"))).toEqual([]);
  });

  it("takes environment, wall time and chance from one file each", () => {
    const wrong = sources.flatMap((file) => {
      const text = readFileSync(join(root, file), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
      return [
        ...(/\bprocess\.env\b/.test(text) && file !== "src/config.ts" ? [`${file}: process.env`] : []),
        ...(/\b(Date\.now|performance\.now)\(|new Date\(\)/.test(text) && file !== "src/clock.ts" ? [`${file}: time`] : []),
        ...(/\bMath\.random\(/.test(text) ? [`${file}: Math.random`] : []),
      ];
    });
    // PKCS#11 libraries read the environment of the process, and nobody else may set it.
    expect(wrong).toEqual(["hsm/library-environment.ts: process.env"]);
  });

  it("opens PANs in a few places, all of which are known", () => {
    const places = sources.filter((file) => readFileSync(join(root, file), "utf8").includes(".openDigits()"));
    expect(places.toSorted()).toEqual(["src/rpc/token-service.ts", "src/vault/sealed-card.ts", "src/vault/tokenize-prepare.ts", "src/vault/tokenize-request.ts"]);
  });
});
