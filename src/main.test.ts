import { expect, it } from "vitest";
import { openLog } from "./log.js";
import { closeAll } from "./main.js";

it("everything is closed in reverse, each by itself, whatever another one's close does", async () => {
  const closed: string[] = [];
  const log = openLog("silent");
  const opened = ["first", "second", "third"].map((name) => () => {
    closed.push(name);
    return name === "second" ? Promise.reject(new Error("not closed")) : Promise.resolve();
  });
  expect(await closeAll([...opened], log)).toBe(false);
  expect(closed).toEqual(["third", "second", "first"]);
  expect(await closeAll(opened.slice(0, 1), log)).toBe(true);
});
