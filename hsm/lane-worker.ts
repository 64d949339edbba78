import { decodeGroup, encodeResults } from "./group.js";
import { HsmError } from "./hsm.js";
import { Lane } from "./lane.js";
import type { GroupAnswer, LaneCalls } from "./protocol.js";
import { serve } from "./worker-server.js";

let lane: Lane | undefined;

function started(): Lane {
  if (lane === undefined) throw new HsmError("device", "the lane is not started");
  return lane;
}

function group(bytes: ArrayBuffer): GroupAnswer {
  const { results, failures } = started().perform(decodeGroup(bytes));
  const answer = { bytes: encodeResults(results), failures };
  // The request and the results in this thread held plaintext.
  new Uint8Array(bytes).fill(0);
  for (const result of results) result?.fill(0);
  return answer;
}

serve<LaneCalls>(
  {
    start({ library, provider, slot }) {
      lane = new Lane(library, provider, slot);
      return true;
    },
    addKey({ index, id, handle, probe }) {
      started().addKey(index, id, handle, probe);
      return true;
    },
    dropKey({ index }) {
      started().dropKey(index);
      return true;
    },
    check({ index }) {
      started().check(index);
      return true;
    },
    group: ({ bytes }) => group(bytes),
    stop() {
      lane?.stop();
      lane = undefined;
      return true;
    },
  },
  (value) => (typeof value === "object" && value !== null && "bytes" in value && value.bytes instanceof ArrayBuffer ? [value.bytes] : []),
);
