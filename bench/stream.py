#!/usr/bin/env python3
"""What does it cost that a model does not fit on the device?

    bench/stream.py [--sluice build/release/sluice] [--rounds 3] [--steps 6] [--out FILE]

Trains a model of many small blocks (48 x 256, bytes, `exact`, 8,192 tokens a step) twice over, in turns: everything on
the device, and with every block's weights, gradients and optimizer state at home in host memory, passing through
three slots each. Both go layer by layer with the same micro-batch and the same recompute, so that nothing differs but
the copies. Prints tokens per second (medians over the steps after the second), their ratio, what moves in a step and
how long that takes at the memory's copy rate (`sluice doctor`); and from a `--trace` of one more streamed run, how much
of the copies' time lies inside compute spans.
"""
import argparse
import json
import pathlib
import random
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench" / "peers"))
import common  # noqa: E402
from common import output_of, rows_of  # noqa: E402

TOKENS = 8192
CONFIG = """\
model = {{ family = "gpt2", layers = 48, width = 256, heads = 4, context = 256, vocab = 257 }}
data = {{ train = "{corpus}" }}
batch = {{ tokens = {tokens}, sequence = 256 }}
optim = {{ lr = 1e-3 }}
plan = {{ micro_batch = 8, schedule = "layer-major", recompute = "selective", state = "exact" }}
run = {{ validate_every = 0, save_every = 0 }}
"""


def prepared(work):
    """A config beside a corpus of random bytes."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    draw, corpus = random.Random(0), work / "random.bin"
    with open(corpus, "wb") as out:
        out.write(b"".join(draw.randrange(256).to_bytes(2, "little") for _ in range(64 * TOKENS)))
    config = work / "config.toml"
    config.write_text(CONFIG.format(corpus=corpus, tokens=TOKENS))
    return config


def speeds(sluice, config, homes, steps):
    """(tokens per second of each step after the second, the run's last digest)."""
    run = config.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    output_of(sluice, "train", config, "--out", run, f"--plan.homes={homes}", f"--run.tokens={(steps + 2) * TOKENS}")
    rows = rows_of((run / "metrics.jsonl").read_text())
    digest = [row["digest"] for row in rows if "digest" in row][-1:]
    return [row["tokens_per_second"] for row in rows if "loss" in row][2:], digest


def traced(sluice, config, steps):
    """Of one streamed run's steady steps: (share of the copies' time that lies inside compute spans, milliseconds of
    copying a step, milliseconds a step that the compute lane waited)."""
    run = config.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    output_of(sluice, "train", config, "--out", run, "--plan.homes=host", f"--run.tokens={(steps + 2) * TOKENS}",
              "--trace", steps)
    events = json.loads((run / "trace.json").read_text())["traceEvents"]
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    spans = [(lanes[event["tid"]], event["ts"], event["ts"] + event["dur"]) for event in events
             if event["ph"] == "X" and event["cat"] == "action"]
    computing = sorted((begin, end) for lane, begin, end in spans if lane == "compute")
    copying = hidden = 0.0
    first = 0
    for _, begin, end in sorted((span for span in spans if span[0] != "compute"), key=lambda span: span[1]):
        copying += end - begin
        while first < len(computing) and computing[first][1] <= begin:
            first += 1
        for other_begin, other_end in computing[first:]:
            if other_begin >= end:
                break
            hidden += min(end, other_end) - max(begin, other_begin)
    waited = [event["args"]["value"] for event in events if event["ph"] == "C" and event["name"].startswith("compute")]
    return hidden / copying, copying / 1e3 / steps, waited[-1] / steps


def moved_bytes(plan):
    """In and out of the device in a steady step of one pass, by docs/decisions/0008."""
    blocks, slots = 48, plan["slots"]
    home = plan["memory"]["host"] / blocks  # of one block: weights, gradients and state
    weights = 2 * 12 * 256 * 256 + 4 * 13 * 256
    gradients = 2 * weights
    state = home - weights - gradients
    into = 2 * (blocks - slots) * weights + (blocks - slots) * gradients + blocks * state
    return into, blocks * weights + (blocks - slots) * gradients + blocks * state


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "stream")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    lines = []

    def show(line):
        print(line, flush=True)
        lines.append(line)

    show("$ bench/stream.py " + " ".join(sys.argv[1:]))
    show(common.machine())
    config = prepared(options.work)
    found, digests = {"device": [], "host": []}, set()
    for _ in range(options.rounds):
        for homes, all_speeds in found.items():
            these, digest = speeds(options.sluice, config, homes, options.steps)
            all_speeds += these
            digests.update(digest)
    plans = {homes: json.loads(output_of(options.sluice, "plan", config, f"--plan.homes={homes}", "--json"))
             for homes in found}
    doctor = json.loads(output_of(options.sluice, "doctor", "--quick", "--json"))
    resident, streamed = (common.median(found[homes]) for homes in ("device", "host"))
    into, out = moved_bytes(plans["host"])
    seconds = (into + out) * 2 / doctor["measured"]["copy_one_thread"]  # a copy reads and writes
    show(f"device memory {plans['device']['device'] / 1e6:.0f} MB resident, {plans['host']['device'] / 1e6:.0f} MB "
         f"streaming, {plans['host']['memory']['host'] / 1e6:.0f} MB at home on the host")
    show(f"tokens per second: resident {resident:.0f}, streaming {streamed:.0f}: {streamed / resident:.1%}")
    show(f"a step moves {into / 1e6:.0f} MB in and {out / 1e6:.0f} MB out: {1e3 * seconds:.0f} ms of copying, one thread "
         f"alone, of {1e3 * TOKENS / streamed:.0f} ms")
    share, copying, waited = traced(options.sluice, config, options.steps)
    show(f"copy time inside compute spans: {share:.1%} of {copying:.0f} ms of copying a step (--trace); the compute lane "
         f"waits {waited:.1f} ms a step")
    show("the same digest" if len(digests) == 1 else f"DIFFERENT DIGESTS: {digests}")
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")
    return 0 if len(digests) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
