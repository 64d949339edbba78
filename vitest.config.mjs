import { defineConfig } from "vitest/config";
import { copyAssets } from "./deploy/copy-assets.mjs";

copyAssets();

// The tests that run are the compiled ones, so that what is tested is what is shipped.
export default defineConfig({
  test: {
    dir: "dist",
    include: ["**/*.test.js"],
    globalSetup: ["dist/test/support/global-setup.js"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
    reporters: ["default"],
  },
});
