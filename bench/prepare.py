#!/usr/bin/env python3
"""How much of the encoder's own rate does `sluice prepare` keep, from packed JSON lines to shards?

    bench/prepare.py [--sluice build/release/sluice] [--megabytes 50] [--rounds 5] [--out FILE] [FILE...]

The text is that of bench/tokens.py, in documents of about 4 kB, one JSON line each, packed by `zstd`. `prepare` is timed
whole: reading, unpacking, parsing, tokenizing with GPT-2's merges, writing and making durable. The encoder's own rate is that
of `tokenize --count` on the same text, plain, with as many threads. Sides take turns; the best of the rounds counts. Documents
and bytes must all be there.
"""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys

import tokens

LIMIT = 0.7


def make_lines(text, path):
    """The text's documents as JSON lines; the number of documents."""
    documents = [[]]
    for line in text.read_text().splitlines(keepends=True):
        documents[-1].append(line)
        if sum(map(len, documents[-1])) > 4000:
            documents.append([])
    documents = ["".join(lines) for lines in documents if lines]
    with path.open("w", newline="\n") as out:
        for document in documents:
            out.write(json.dumps({"text": document, "meta": {"source": "bench"}}) + "\n")
    subprocess.run(["zstd", "-q", "-f", "--rm", str(path)], check=True)
    return len(documents)


def prepared(sluice, path, threads):
    done = subprocess.run([sluice, "prepare", f"{path}.zst", "--tokenizer", "gpt2", "--assets", str(tokens.ROOT / "build/assets"),
                           "--threads", str(threads), "--out", str(path.with_suffix("")), "--json"],
                          capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return told["train"], told["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=pathlib.Path, default=tokens.ROOT / "build" / "bench" / "prepare")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    import common
    options.work.mkdir(parents=True, exist_ok=True)
    text, lines = options.work / "text.txt", options.work / "documents.jsonl"
    size = tokens.make_text(text, options.megabytes * 1_000_000, options.files)
    documents = make_lines(text, lines)
    cores = len(os.sched_getaffinity(0))
    best = {}
    for _ in range(options.rounds):
        for threads in sorted({1, cores}):
            _, alone = tokens.ours(options.sluice, text, threads)
            made, whole = prepared(options.sluice, lines, threads)
            if (made["documents"], made["bytes"]) != (documents, size):
                sys.exit(f"{made} of {documents} documents, {size} bytes")
            for side, seconds in (("encoder", alone), ("prepare", whole)):
                best[side, threads] = min(seconds, best.get((side, threads), seconds))
    rows = ["$ bench/prepare.py " + shlex.join(sys.argv[1:]), common.machine(),
            f"{documents} documents, {size} bytes of text, {os.path.getsize(f'{lines}.zst')} packed; best of {options.rounds}", ""]
    for side, threads in sorted(best):
        rows.append(f"{side}, {threads} thread{'s' if threads > 1 else ' '}   {best[side, threads]:7.2f} s  "
                    f"{size / best[side, threads] / 1e6:7.1f} MB/s")
    for threads in sorted({1, cores}):
        rows.append(f"prepare keeps, {threads} thread{'s' if threads > 1 else ' '}  "
                    f"{best['encoder', threads] / best['prepare', threads]:5.2f} of the encoder's rate   (limit {LIMIT})")
    print("\n".join(rows))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
