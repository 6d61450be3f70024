#!/usr/bin/env python3
"""How fast is text tokenized beside tiktoken, and a BPE learnt beside Hugging Face's trainer?

    bench/tokens.py [--sluice build/release/sluice] [--megabytes 50] [--rounds 3] [--out FILE] [FILE...]

The text has no line twice: the novels of build/assets, the sources and pages of this machine's packages (/usr/include,
/usr/share/doc, Python's library), CJK made of random characters, then FILEs; each line is kept once. Sides take turns; the
best of the rounds counts. tiktoken is timed inside one process, on one thread, with the vocabulary loaded and a text that it
has not seen; `sluice tokenize --count` likewise, reading the file included. GPT-2's merges on both sides, and the number of
tokens must be equal. The trainers learn 32,000 ids from the same text, each with the threads that there are.
"""
import argparse
import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench" / "peers"), str(ROOT / "tools" / "goldens")]
LIMIT = 2.0  # what the ratio has to reach


def sources(extra):
    yield from sorted((ROOT / "build/assets/austen").glob("*.txt"))
    yield from extra
    for folder in ("/usr/include", os.path.dirname(os.__file__), "/usr/share/doc"):
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix in (".h", ".hpp", ".py", ".txt", ".md", ".html", ".rst") and path.is_file():
                yield path


def cjk_lines(count, rng):
    for _ in range(count):
        yield "".join(chr(rng.choice((0x4E00, 0x4E00, 0x3041)) + rng.randrange(86)) if rng.random() < 0.3 else
                      chr(0x4E00 + rng.randrange(3000)) for _ in range(rng.randrange(5, 60))) + "。"


def make_text(path, size, extra):
    seen, out, have = set(), [], 0
    lines = cjk_lines(size // 1000, random.Random(1))
    for file in sources(extra):
        if have >= size:
            break
        for line in file.read_text(errors="replace").splitlines():
            if line not in seen:
                seen.add(line)
                out.append(line)
                have += len(line.encode()) + 1
    for line in lines:
        out.append(line)
        have += len(line.encode()) + 1
    path.write_text("\n".join(out) + "\n", newline="\n")
    return path.stat().st_size


PEER = """
import sys, time
import bpe, tiktoken
encoding = tiktoken.Encoding("gpt2", pat_str=bpe.R50K, mergeable_ranks=bpe.gpt2_ranks(), special_tokens={})
encoding.encode_ordinary("warm")
text = open(sys.argv[1], newline="").read()
begin = time.perf_counter()
tokens = len(encoding.encode_ordinary(text))
print(tokens, time.perf_counter() - begin)
"""

TRAINER = """
import sys, time
import bpe
text = open(sys.argv[1], newline="").read()
begin = time.perf_counter()
made = bpe.train([text], bpe.byte_level(), 32000)
print(made.get_vocab_size(), time.perf_counter() - begin)
"""


def ask(program, path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools/goldens")}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, capture_output=True, text=True,
                          check=True)
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def ours(sluice, path, threads):
    done = subprocess.run([sluice, "tokenize", "--tokenizer", "gpt2", "--assets", str(ROOT / "build/assets"), "--threads",
                           str(threads), "--count", "--json", str(path)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return told["tokens"], told["seconds"]


def our_trainer(sluice, path):
    """Seconds of `prepare` with a BPE to learn, less those of `prepare` with the BPE that it learnt."""
    prefix = str(path.with_suffix(""))
    seconds = []
    for kind in ("train:32000", prefix + ".tokenizer.json"):
        begin = time.perf_counter()
        subprocess.run([sluice, "prepare", str(path), "--tokenizer", kind, "--out", prefix], capture_output=True, check=True)
        seconds.append(time.perf_counter() - begin)
    return json.loads(path.with_suffix(".json").read_text())["tokenizer"]["vocab"], seconds[0] - seconds[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "tokens")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    import common
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "text.txt"
    size = make_text(path, options.megabytes * 1_000_000, options.files)
    cores = len(os.sched_getaffinity(0))
    sides = {"tiktoken, 1 thread": lambda: ask(PEER, path), "sluice, 1 thread": lambda: ours(options.sluice, path, 1),
             f"sluice, {cores} threads": lambda: ours(options.sluice, path, cores),
             "Hugging Face's trainer": lambda: ask(TRAINER, path),
             "sluice's trainer": lambda: our_trainer(options.sluice, path)}
    best, counts = {}, {}
    for _ in range(options.rounds):
        for name, side in sides.items():
            counts[name], seconds = side()
            best[name] = min(seconds, best.get(name, seconds))
    tiktoken, one, many, theirs, learnt = sides
    if not counts[tiktoken] == counts[one] == counts[many] or counts[theirs] != counts[learnt]:
        sys.exit(f"the sides did not do the same: {counts}")
    lines = ["$ bench/tokens.py " + shlex.join(sys.argv[1:]), common.machine(),
             f"{size} bytes without a line twice, {counts[one]} tokens; best of {options.rounds}", ""]
    lines += [f"{name:24} {best[name]:8.2f} s  {size / best[name] / 1e6:7.1f} MB/s" for name in sides]
    lines += ["", f"tokenizing, one thread   {best[tiktoken] / best[one]:5.2f} x tiktoken   (limit {LIMIT})",
              f"tokenizing, {cores} threads    {best[one] / best[many]:5.2f} x one        (limit 1.8 with 2)",
              f"training 32,000 ids      {best[theirs] / best[learnt]:5.2f} x Hugging Face (limit {LIMIT})"]
    print("\n".join(lines))
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
