"""The acts between the measurement and the samples, one function each."""

import json
import shlex
import signal
import subprocess
import textwrap
import time
import tomllib
from pathlib import Path

from program import (CONFIG, HELD_OUT, NOVELS, RUN, TRAIN, VALIDATION, WIDTH, act, call, fail, rows, say, scratch, start,
                     stop_if_asked, train_quietly, wrapped)

VOCABULARY = 2048
TWIN_STEPS, TWIN_SAVE_EVERY = 40, 10
LINE_EVERY = 2  # seconds between the step lines that are shown; metrics.jsonl has every step
LARGE = "gigagpt-70b"
LARGE_ON = ("--machine h200x4-one --plan.state=compact --batch.tokens=65536",
            "--machine h200 --plan.state=compact --batch.tokens=65536 --plan.disk_memory=600_000_000_000",
            "--machine rtx4090-64g --plan.state=compact --batch.tokens=65536")


def prepare():
    """Tokens of the training text."""
    act("prepare: five novels to learn from, one held out")
    training = sorted(path for path in NOVELS.glob("*.txt") if path != HELD_OUT)
    if len(training) != 5 or not HELD_OUT.exists():
        fail(f"the novels are not all in {NOVELS}; try: make austen")
    # The byte pairs come from the training text alone.
    for inputs, prefix, tokenizer in ((training, TRAIN, f"train:{VOCABULARY}"),
                                      ([HELD_OUT], VALIDATION, f"{TRAIN}.tokenizer.json")):
        if not Path(prefix + ".json").exists():
            call("prepare", *inputs, "--tokenizer", tokenizer, "--out", prefix)
        about = json.loads(Path(prefix + ".json").read_text())
        say(f"{prefix}: {', '.join(path.stem for path in inputs)}: {about['text_bytes']:,} bytes, "
            f"{about['tokens']:,} tokens")
        if prefix == TRAIN:
            tokens = about["tokens"]
    return tokens


def show(line):
    """A line of the run; a sample is shown as the text it is."""
    head, mark, quoted = line.partition(" | sample | ")
    if not mark:
        return say(line)
    say(f"{head} | it writes:")
    say(textwrap.indent("\n".join(wrapped(json.loads(quoted), WIDTH - 4)), "    "))


def train(options):
    act(f"train: sluice train {CONFIG} --out {RUN} {' '.join(options)}")
    process = start("train", CONFIG, "--out", RUN, *options, stderr=subprocess.PIPE)
    shown = 0
    for line in process.stderr:
        is_step = " | loss " in line
        if is_step and time.monotonic() - shown < LINE_EVERY:
            continue
        if is_step:
            shown = time.monotonic()
        show(line.rstrip("\n"))
    code = process.wait()
    stop_if_asked()
    if code:
        fail(f"the run ended with exit code {code}")


def evaluate():
    act("evaluate: bits per byte of Sense and Sensibility, which the model never saw")
    ours = json.loads(call("eval", "--checkpoint", RUN, "--data", VALIDATION, "--json"))
    packed = subprocess.run(["xz", "-9e", "--threads=1", "--stdout", HELD_OUT], stdout=subprocess.PIPE)
    stop_if_asked()
    if packed.returncode:
        fail("xz failed")
    xz = 8 * len(packed.stdout) / HELD_OUT.stat().st_size
    say(f"sluice {ours['bits_per_byte']:.3f}, xz -9e {xz:.3f}")
    return ours, xz


def digest_at(run, step):
    digests = [row["digest"] for row in rows(run, "digest") if row["step"] == step]
    return digests[-1] if digests else None


def twins(shape):
    """Digests after 40 steps: of an undisturbed run, of one that died in the middle of a save and was resumed, and of
    one that streams."""
    act(f"twins: {TWIN_STEPS} steps undisturbed, and killed with -9 in the middle of a save")
    step = tomllib.loads(Path(CONFIG).read_text())["batch"]["tokens"]
    options = [*shape, f"--run.tokens={TWIN_STEPS * step}", f"--run.save_every={TWIN_SAVE_EVERY}",
               "--run.validate_every=0", "--run.sample_every=0"]
    whole, killed = scratch("twin-undisturbed"), scratch("twin-killed")
    if train_quietly(whole, *options):
        fail("the undisturbed twin failed", Path(f"{whole}.log").read_text())
    # The first save is left alone; somewhere in the second one the process dies.
    first_save = Path(f"{whole}/checkpoints").glob(f"step-{TWIN_STEPS:08}/*")
    fault = f"save.fsync:kill@{sum(1 for _ in first_save) + 4}"
    code = train_quietly(killed, *options, "--fault", fault)
    half_done = sorted(path.name for path in (killed / "checkpoints").glob("*.tmp"))
    if code != -signal.SIGKILL or not half_done:
        fail(f"the twin was to die inside a save; exit code {code}", Path(f"{killed}.log").read_text())
    say(f"killed while it wrote {half_done[0]}; resumed")
    if train_quietly(killed, *options):
        fail("the killed twin did not resume", Path(f"{killed}.log").read_text())
    streamed, memory = streamed_twin(options)
    digests = [digest_at(run, TWIN_STEPS) for run in (whole, killed, streamed)]
    say(f"digest of the undisturbed twin {digests[0]}, of the resumed twin {digests[1]}, of the one that streamed "
        f"{digests[2]}")
    return {"digests": digests, "killed_in": half_done[0], "memory": memory,
            "same": [digests[0] is not None and digest == digests[0] for digest in digests]}


def streamed_twin(options):
    """The same steps in the least device memory that does: (run, bytes)."""
    resident = json.loads(call("plan", CONFIG, "--json", *options))["device"]
    on_disk = ["--plan.homes=disk", *options]
    least = json.loads(call("plan", CONFIG, "--json", *on_disk))["least"]
    act(f"stream: the same steps in {least['device'] / 1e6:.0f} MB of device memory instead of {resident / 1e6:.0f}, "
        "blocks at home on disk")
    run = scratch("twin-streamed")
    if train_quietly(run, *on_disk, f"--plan.device_memory={least['device']}"):
        fail("the twin that streams failed", Path(f"{run}.log").read_text())
    return run, {**least, "resident": resident}


def gib(number):
    return f"{number / 2**30:,.0f} GiB"


def large():
    """One line on a model of 70 billion parameters: what it would take here, and where it would run."""
    act(f"plan: {LARGE} here, and on three machines")
    here = json.loads(call("plan", LARGE, "--json"))
    say(f"here it would take {gib(here['memory']['total'])} of {gib(here['available'])}, or a device of "
        f"{gib(here['least']['device'])} and {gib(here['least']['host'])} of host memory")
    for instead in here["try"]:
        say(f"    try: {instead}")
    fits = 0
    for options in LARGE_ON:
        there = json.loads(call("plan", LARGE, "--json", *shlex.split(options)))
        fits += there["fits"]
        seconds = there["predicted"]["seconds"]
        say(f"sluice plan {LARGE} {options}\n"
            f"    {gib(there['device'])} of device, {gib(there['memory']['host'])} of host, "
            f"{gib(there['disk']['scratch'])} of disk; {seconds:,.0f} s a step predicted, "
            f"{65536 / seconds:,.0f} tokens/s")
    return f"{LARGE} needs {gib(here['memory']['total'])} here; streams on {fits} of {len(LARGE_ON)} machines planned for"


def roof(plan):
    """Tokens per second if the machine did nothing but the model's products, at the rate that doctor measures."""
    act("roof: what the products alone would take")
    rate = json.loads(call("doctor", "--quick", "--json"))[f"{plan['precision']}_flops"]
    of_token = plan["flops"]["utilization"]["per_token"]  # as MFU counts them
    say(f"{rate / 1e9:,.0f} GFLOP/s in {plan['precision']}, {of_token / 1e6:.1f} MFLOP a token: "
        f"{rate / of_token:,.0f} tokens/s")
    return rate / of_token
