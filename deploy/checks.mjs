import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "./build.mjs";
import { checkout, run, say, Stop, toolEnvironment } from "./run.mjs";

const resultsFile = join(checkout, "dist", "test-results.json");

/** The API that was released last; docs/releasing.md says how it is renewed. */
const releasedApi = "proto/released.binpb";

/**
 * Runs everything that can be checked: types (the build), lint, the API's style and its compatibility, all tests. All of it
 * runs even if the first finds something. Ends with a line "N passed, N failed".
 * @param {readonly string[]} filters names of test files; none: all
 * @returns {Promise<number>} the exit code
 */
export async function check(filters) {
  const failed = [];
  try {
    await build();
  } catch (error) {
    if (!(error instanceof Stop) || !existsSync(join(checkout, "dist", "test", "support"))) throw error;
    process.stderr.write(`${error.details}\n`);
    failed.push("types");
  }
  if (filters.length === 0) {
    if (!(await passes("lint", "oxlint", ["--type-aware", "--deny-warnings"]))) failed.push("lint");
    if (!(await passes("types of deploy/", "tsc", deployTypes))) failed.push("types of deploy/");
    if (!(await passes("buf lint", "buf", ["lint"]))) failed.push("buf lint");
    if (!(await passes("buf breaking", "buf", ["breaking", "--against", releasedApi]))) failed.push("buf breaking");
  }
  const tests = await test(filters);
  if (failed.length > 0) say(`failed besides the tests: ${failed.join(", ")}`);
  process.stdout.write(`${tests.passed} passed, ${tests.failed + failed.length} failed\n`);
  return tests.failed === 0 && failed.length === 0 && tests.code === 0 ? 0 : 1;
}

const deployTypes =
  "--noEmit --allowJs --checkJs --strict --skipLibCheck --ignoreConfig --module nodenext --target es2023 --types node deploy/setup.mjs".split(" ");

/** @param {string} name @param {string} program @param {readonly string[]} args */
async function passes(name, program, args) {
  say(name);
  const { code, output } = await run(name, program, args, { env: toolEnvironment() });
  if (code !== 0) process.stderr.write(`${output.trim()}\n`);
  return code === 0;
}

/** @param {readonly string[]} filters */
async function test(filters) {
  say("tests");
  rmSync(resultsFile, { force: true });
  mkdirSync(join(checkout, "dist"), { recursive: true });
  const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${resultsFile}`, ...filters];
  const { code } = await run("tests", "vitest", args, { env: toolEnvironment(), shown: true });
  if (!existsSync(resultsFile)) return { passed: 0, failed: 1, code };
  const results = JSON.parse(readFileSync(resultsFile, "utf8"));
  const unloaded = results.testResults.filter((/** @type {{ status: string, assertionResults: unknown[] }} */ file) => file.status === "failed" && file.assertionResults.length === 0);
  if (results.numPendingTests > 0) say(`${results.numPendingTests} tests were skipped`);
  return { passed: results.numPassedTests, failed: results.numFailedTests + unloaded.length, code };
}
