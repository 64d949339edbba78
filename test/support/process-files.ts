import { readdir, readFile } from "node:fs/promises";

/** Arguments and environment of a process and of everything below it, as anybody may read them who may look (Linux). */
export async function visibleOf(pid: number): Promise<string[]> {
  const seen: string[] = [];
  for (const each of [pid, ...(await descendants(pid))]) {
    for (const name of ["cmdline", "environ"]) seen.push(await readFile(`/proc/${each}/${name}`, "latin1"));
  }
  return seen;
}

async function descendants(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, "latin1")));
  const children = lists.flatMap((list) => list.split(" ").filter((each) => each !== "").map(Number));
  return [...children, ...(await Promise.all(children.map(descendants))).flat()];
}
