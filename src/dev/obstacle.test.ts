import { expect, test } from "vitest";
import { asObstacle, Obstacle } from "./obstacle.js";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: no`), { code, path: "/somewhere/file" });
}

test("a full disk and a missing right are told with the place and what to do", () => {
  expect(asObstacle(systemError("ENOSPC"), "starting")).toMatchObject({
    name: "Obstacle",
    message: "the disk is full while starting (/somewhere/file): free some space, then start again; nothing is lost",
  });
  expect(asObstacle(systemError("EACCES"), "starting")).toMatchObject({ message: expect.stringContaining("run as the user who owns the folder") as string });
});

test("what a program says of a full disk is understood too", () => {
  expect(asObstacle(Object.assign(new Error("could not extend file"), { code: "53100" }), "starting")).toMatchObject({ message: expect.stringContaining("the disk is full") as string });
  expect(asObstacle(new Error('initdb: error: could not write file "base/1": No space left on device'), "starting")).toBeInstanceOf(Obstacle);
});

test("any other error passes as it is", () => {
  const error = new Error("something else");
  expect(asObstacle(error, "starting")).toBe(error);
  expect(asObstacle("text", "starting")).toBe("text");
});
