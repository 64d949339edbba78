import type { Call } from "../call.js";

/** Stands in where an entry is not a call's: nobody waits for it, and it touches nothing. */
export const noticeCall: Call = {
  id: "",
  rpc: "",
  principal: { id: "", tenant: "system" },
  address: "",
  signal: new AbortController().signal,
  view: "nothing",
  purpose: undefined,
  requestId: undefined,
  facts: {},
  resources: [],
  policyVersion: 0,
  decideAgain: () => Promise.resolve(),
  mayUseScope: () => false,
  unsettled: false,
  audited: false,
};
