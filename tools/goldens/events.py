#!/usr/bin/env python3
"""Our TensorBoard events as TensorBoard itself reads them, beside metrics.jsonl.

  build/venv/bin/python tools/goldens/events.py --sluice build/release/sluice

A small run is trained with run.tensorboard, killed behind its last checkpoint and resumed; then every
number of every step must be there once, equal in float32, what the killed part said of later steps
forgotten. The planted control, a flipped byte in the file, must be seen. Exit code 0 or 1.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CONFIG = """
model = { layers = 1, width = 16, heads = 2, context = 16, vocab = 257 }
data = { train = "text", validation = "text-val" }
batch = { tokens = 32, sequence = 16 }
optim = { lr = 1e-3, lr_end = 1e-4, lr_schedule = "cosine", warmup_tokens = 64 }
run = { tokens = 640, save_every = 6, validate_every = 5, norms_every = 5, tensorboard = true, threads = 1 }
"""
TAGS = {"loss": "train/loss", "grad_norm": "train/grad_norm", "lr": "train/learning_rate",
        "tokens_per_second": "speed/tokens_per_second", "val_loss": "validation/loss",
        "bits_per_byte": "validation/bits_per_byte"}


def single(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def make_run(sluice, folder):
    (folder / "text.txt").write_text("".join(f"Gate {n} was raised, and the mill turned.\n" for n in range(200)))
    (folder / "c.toml").write_text(CONFIG)

    def run(*args):
        return subprocess.run([sluice, *args], cwd=folder, capture_output=True, text=True).returncode

    run("prepare", "text.txt", "--tokenizer", "bytes", "--out", "text", "--validation", "0.2")
    killed = run("train", "c.toml", "--out", "run", "--fault", "train.step:kill@9")
    if killed == 0 or run("train", "c.toml", "--out", "run") != 0:
        sys.exit("events.py: the run did not die and go on as it should")
    return folder / "run"


def expected(run):
    out = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key, tag in TAGS.items():
            if row.get(key) is not None:
                out[tag, row["step"]] = single(row[key])
        names = ["embedding", "block-00", "head"]
        for key, tag in (("weight_norms", "weight_norm/"), ("grad_norms", "grad_norm/")):
            for name, value in zip(names, row.get(key, [])):
                out[tag + name, row["step"]] = single(value)
    return out


def found(run):
    reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
    reader.Reload()
    out = {}
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            if (tag, event.step) in out:
                sys.exit(f"events.py: {tag} of step {event.step} is there twice")
            out[tag, event.step] = event.value
    return out


def close(a, b):
    # metrics.jsonl rounds the speed; everything else has all its digits.
    return a.keys() == b.keys() and all(
        abs(a[k] - b[k]) <= (0.06 if k[0].startswith("speed/") else 0) for k in a)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True, type=pathlib.Path)
    sluice = str(parser.parse_args().sluice.resolve())
    with tempfile.TemporaryDirectory() as name:
        run = make_run(sluice, pathlib.Path(name))
        theirs, ours = found(run), expected(run)
        files = sorted(run.glob("events.out.tfevents.*"))
        if not close(theirs, ours) or len(files) != 2:
            sys.exit(f"events.py: TensorBoard reads {len(theirs)} numbers of {len(files)} files where metrics.jsonl "
                     f"has {len(ours)}; the first that differ: "
                     f"{sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))[:5]}")
        data = bytearray(files[1].read_bytes())
        data[len(data) // 2] ^= 1
        files[1].write_bytes(data)
        if close(found(run), ours):
            sys.exit("events.py: a flipped byte was not seen")
    print(f"events.py: TensorBoard reads the same {len(ours)} numbers from 2 files of a resumed run")


if __name__ == "__main__":
    main()
