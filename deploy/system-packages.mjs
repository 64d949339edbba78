import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { knownTrouble, lastLines, run, say, Stop } from "./run.mjs";

/**
 * Something that no npm package brings.
 * @typedef {object} Need
 * @property {string} what
 * @property {() => boolean | Promise<boolean>} present
 * @property {readonly string[]} apt packages of Debian and Ubuntu
 * @property {readonly string[]} brew packages of Homebrew
 */

const softhsmLibraries = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
  "/usr/lib64/libsofthsm2.so",
  "/usr/local/lib/softhsm/libsofthsm2.so",
  "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/** @type {Need} */
export const softhsm = {
  what: "SoftHSM2, the HSM in software",
  present: () => softhsmLibraries.some((path) => existsSync(path)),
  apt: ["softhsm2"],
  brew: ["softhsm"],
};

/** @type {readonly Need[]} */
export const compiler = [
  { what: "Python, for node-gyp", present: () => hasProgram("python3"), apt: ["python3"], brew: ["python3"] },
  { what: "make", present: () => hasProgram("make"), apt: ["make"], brew: [] },
  { what: "a C++ compiler, for pkcs11js", present: () => hasProgram("g++") || hasProgram("c++"), apt: ["g++"], brew: [] },
];

/** A gRPC client that nobody here wrote, with a code generator of its own. @type {readonly Need[]} */
export const foreignClient = [
  { what: "Python's gRPC", present: async () => (await run("", systemPython(), ["-c", "import grpc"])).code === 0, apt: ["python3-grpcio"], brew: [] },
  { what: "protoc", present: () => hasProgram("protoc"), apt: ["protobuf-compiler"], brew: [] },
  { what: "protoc's gRPC generator", present: () => hasProgram("grpc_python_plugin"), apt: ["protobuf-compiler-grpc"], brew: [] },
];

/**
 * Installs what is missing, after saying so: by apt-get on Debian and Ubuntu, by Homebrew on macOS.
 * @param {readonly Need[]} needs
 * @throws {Stop} where neither is there
 */
export async function ensureSystemPackages(needs) {
  const missing = [];
  for (const need of needs) if (!(await need.present())) missing.push(need);
  if (missing.length === 0) return;
  const what = missing.map((need) => need.what).join("; ");
  if (process.platform === "darwin") await installWithBrew(missing, what);
  else if (isDebian() && hasProgram("apt-get")) await installWithApt(missing.flatMap((need) => need.apt), what);
  else throw new Stop(`this system lacks ${what}: install them with its package manager (Debian's names: ${missing.flatMap((need) => need.apt).join(" ")}), then start again`);
  for (const need of missing) if (!(await need.present())) throw new Stop(`${need.what} was installed but is not found: install ${need.apt.join(" ")} by hand`);
}

/** @param {readonly Need[]} missing @param {string} what */
async function installWithBrew(missing, what) {
  const packages = missing.flatMap((need) => need.brew);
  const rest = missing.filter((need) => need.brew.length === 0);
  if (rest.length > 0) throw new Stop(`macOS lacks ${rest.map((need) => need.what).join("; ")}: run "xcode-select --install", then start again`);
  if (!hasProgram("brew")) throw new Stop(`this Mac lacks ${what}: install Homebrew (https://brew.sh), then start again`);
  say(`installing with Homebrew: ${packages.join(" ")} (${what})`);
  const { code, output } = await run("brew install", "brew", ["install", ...packages]);
  if (code !== 0) throw new Stop(knownTrouble(output) ?? `"brew install ${packages.join(" ")}" failed: run it by hand`, { details: lastLines(output) });
}

/** @param {readonly string[]} packages @param {string} what */
async function installWithApt(packages, what) {
  const prefix = await asRoot(packages);
  say(`installing with apt-get${prefix.length > 0 ? " through sudo" : ""}: ${packages.join(" ")} (${what})`);
  const install = ["install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", ...packages];
  let result = await aptGet(prefix, install);
  if (result.code !== 0 && /Unable to locate|has no installation candidate|404|Unable to fetch|Failed to fetch/.test(result.output)) {
    say("apt-get's lists are missing or old: updating them");
    const update = await aptGet(prefix, ["update"]);
    if (update.code === 0) result = await aptGet(prefix, install);
    else result = update;
  }
  if (result.code === 0) return;
  throw new Stop(knownTrouble(result.output) ?? `"apt-get install ${packages.join(" ")}" failed: run it by hand, then start again`, {
    details: lastLines(result.output),
  });
}

/** @param {readonly string[]} prefix @param {readonly string[]} args */
async function aptGet(prefix, args) {
  const [program, ...rest] = [...prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", ...args];
  return await run(`apt-get ${args[0]}`, /** @type {string} */ (program), rest, { interactive: prefix.length > 0 });
}

/** @param {readonly string[]} packages @returns {Promise<string[]>} what stands before apt-get */
async function asRoot(packages) {
  if (process.getuid?.() === 0) return [];
  const byHand = `run "apt-get install ${packages.join(" ")}" as root, then start again`;
  if (!hasProgram("sudo")) throw new Stop(`packages are missing, and there is no sudo to install them with: ${byHand}`);
  if ((await run("", "sudo", ["-n", "true"])).code === 0) return ["sudo", "-n"];
  if (!process.stdin.isTTY) throw new Stop(`packages are missing, and sudo asks for a password where nobody can type one: ${byHand}`);
  return ["sudo"];
}

/** The Python that the system's packages are for; the first of the PATH may be another. */
function systemPython() {
  return existsSync("/usr/bin/python3") ? "/usr/bin/python3" : "python3";
}

function isDebian() {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync("/etc/os-release", "utf8"));
  } catch {
    return false;
  }
}

/** @param {string} name */
function hasProgram(name) {
  return (process.env["PATH"] ?? "").split(delimiter).some((folder) => folder !== "" && existsSync(join(folder, name)));
}
