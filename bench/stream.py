#!/usr/bin/env python3
"""What does it cost that a model does not fit on the device?

    bench/stream.py [--sluice build/release/sluice] [--rounds 3] [--steps 4] [--out FILE]

Trains a model of many small blocks (48 x 256, bytes, `exact`, 8,192 tokens a step) three times over, in turns: with
everything on the device; with a device of a tenth of the bytes of its weights and optimizer state, the rest at home in
host memory; and with the same device and all blocks at home on disk. All go layer by layer with the same micro-batch
and the same recompute, so that nothing differs but the copies. Prints tokens per second (medians over the steps after
the second), their ratios, what moves in a step beside what the memory and the disk let pass (`sluice doctor`); and from
a `--trace` of one more run from each home, how much of the copies' time lies inside compute spans. One run takes
half a minute or less on two cores.
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
plan = {{ micro_batch = 1, schedule = "layer-major", recompute = "block", state = "exact" }}
run = {{ validate_every = 0, save_every = 0 }}
"""
OWNED = ("weights", "gradients", "packed", "optimizer")  # what goes on to disk; a spilled stash never does


def prepared(work, config=CONFIG, tokens=TOKENS):
    """A config beside a corpus of random bytes."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    draw, corpus = random.Random(0), work / "random.bin"
    with open(corpus, "wb") as out:
        out.write(b"".join(draw.randrange(256).to_bytes(2, "little") for _ in range(64 * TOKENS)))
    path = work / "config.toml"
    path.write_text(config.format(corpus=corpus, tokens=tokens))
    return path


def plan_of(sluice, config, *options):
    return json.loads(output_of(sluice, "plan", config, "--json", *options))


def homes_of(sluice, config):
    """Options of each kind of run, and the budget: a tenth of what weights and state take on the device."""
    memory = plan_of(sluice, config, "--plan.homes=device")["memory"]
    budget = (memory["weights"] + memory["optimizer"]) // 10
    return {"device": ["--plan.homes=device"],
            "host": ["--plan.homes=host", f"--plan.device_memory={budget}"],
            "disk": ["--plan.homes=disk", f"--plan.device_memory={budget}"]}, budget


def trained(sluice, config, tokens, steps, *options):
    """The rows of a run of two steps more."""
    run = config.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    output_of(sluice, "train", config, "--out", run, f"--run.tokens={(steps + 2) * tokens}", *options)
    return run, rows_of((run / "metrics.jsonl").read_text())


def speeds(sluice, config, options, steps):
    """(tokens per second of each step after the second, the run's last digest)."""
    rows = trained(sluice, config, TOKENS, steps, *options)[1]
    digest = [row["digest"] for row in rows if "digest" in row][-1:]
    return [row["tokens_per_second"] for row in rows if "loss" in row][2:], digest


def traced(sluice, config, options, steps):
    """Of one run's steady steps: (share of the copies' time that lies inside compute spans, milliseconds of copying a
    step, milliseconds a step that the compute lane waited)."""
    run = trained(sluice, config, TOKENS, steps, *options, "--trace", steps)[0]
    events = json.loads((run / "trace.json").read_text())["traceEvents"]
    measured = next(event["pid"] for event in events
                    if event["name"] == "process_name" and event["args"]["name"] == "measured")
    events = [event for event in events if event["pid"] == measured]
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


def moved(plan, kinds=None):
    """Bytes in and out of the device in a steady step."""
    copies = [both for kind, both in plan["copies"].items() if kinds is None or kind in kinds]
    return sum(both["in"] for both in copies), sum(both["out"] for both in copies)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
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
    homes, budget = homes_of(options.sluice, config)
    found, digests = {home: [] for home in homes}, set()
    for _ in range(options.rounds):
        for home, all_speeds in found.items():
            these, digest = speeds(options.sluice, config, homes[home], options.steps)
            all_speeds += these
            digests.update(digest)
    plans = {home: plan_of(options.sluice, config, *homes[home]) for home in homes}
    doctor = json.loads(output_of(options.sluice, "doctor", "--quick", "--json", "--disk", options.work))["measured"]
    resident, host, disk = (common.median(found[home]) for home in ("device", "host", "disk"))
    show(f"weights and state {budget * 10 / 1e6:.1f} MB; device memory {plans['device']['device'] / 1e6:.1f} MB resident, "
         f"{plans['host']['device'] / 1e6:.1f} MB streaming (budget {budget / 1e6:.1f} MB, a tenth); "
         f"{plans['host']['memory']['host'] / 1e6:.0f} MB at home on the host")
    show(f"tokens per second: resident {resident:.0f}; from the host {host:.0f}: {host / resident:.1%}; from disk {disk:.0f}: "
         f"{disk / resident:.1%}")
    into, out = moved(plans["host"])
    seconds = (into + out) * 2 / doctor["copy_one_thread"]  # a copy reads and writes
    show(f"a step from the host moves {into / 1e6:.0f} MB in and {out / 1e6:.0f} MB out: {1e3 * seconds:.0f} ms of copying, one "
         f"thread alone, of {1e3 * TOKENS / host:.0f} ms")
    read, written = moved(plans["disk"], OWNED)
    limit = max(TOKENS / resident, read / doctor["disk_read"], written / doctor["disk_write"])
    show(f"a step from disk reads {read / 1e6:.0f} MB and writes {written / 1e6:.0f} MB; at {doctor['disk_read'] / 1e6:.0f} and "
         f"{doctor['disk_write'] / 1e6:.0f} MB/s (`sluice doctor`), each way beside the other and compute, that lets "
         f"{TOKENS / limit:.0f} tokens/s pass, {TOKENS / limit / resident:.1%} of resident: reached {disk * limit / TOKENS:.1%} of it")
    for home in ("host", "disk"):
        share, copying, waited = traced(options.sluice, config, homes[home], options.steps)
        show(f"from {home}: copy time inside compute spans {share:.1%} of {copying:.0f} ms of copying a step (--trace); the "
             f"compute lane waits {waited:.1f} ms a step")
    show("the same digest" if len(digests) == 1 else f"DIFFERENT DIGESTS: {digests}")
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")
    return 0 if len(digests) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
