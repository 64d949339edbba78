"""Verifies an export of the audit log with nothing but Python's standard library.

usage: verify_chain.py audit.jsonl        (audit.jsonl.heads.json is read too, where it is there)
"""

import hashlib
import json
import os
import sys


def verify(path):
    heads = {}  # stream -> (sequence number, SHA-256) of its newest entry so far
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.rstrip(b"\n")
            entry = json.loads(line)
            canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            if canonical.encode() != line or len(line) > 16384:
                sys.exit(f"line {number}: is not a canonical line of at most 16 KiB")
            seq, prev = heads.get(entry["stream"], (entry["seq"] - 1, entry["prev"]))
            if entry["seq"] != seq + 1:
                sys.exit(f"line {number}: sequence number {entry['seq']} where {seq + 1} was due")
            if entry["prev"] != prev or (entry["seq"] == 1 and prev != "0" * 64):
                sys.exit(f"line {number}: prev is not the SHA-256 of the entry before it")
            heads[entry["stream"]] = (entry["seq"], hashlib.sha256(line).hexdigest())
    if os.path.exists(path + ".heads.json"):
        with open(path + ".heads.json", encoding="utf-8") as file:
            if {head["stream"]: (head["seq"], head["hash"]) for head in json.load(file)["heads"]} != heads:
                sys.exit("the file does not end at its heads")
    print(f"{sum(1 for _ in open(path, 'rb'))} entries of {len(heads)} streams: every chain verifies")


verify(sys.argv[1])
