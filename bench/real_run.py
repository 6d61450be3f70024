#!/usr/bin/env python3
"""Does a run of Sluice learn what PyTorch learns from the same weights and batches? And how far are two PyTorchs apart?

    bench/corpus.py                                     # the text (bench/corpus.tsv says of what)
    bench/real_run.py --text build/corpus/text.txt --seeds 1 --other-attention --out bench/results/real-run.txt
    bench/real_run.py --tiny                            # a small model on the CPU in float32, and faults that must show
    bench/real_run.py --report FILE.txt RESULTS.jsonl…  # tables and FILE.svg of runs that were made before

GPT-2 124M, 32,768 tokens a step for 1,000 steps in bf16. For each seed, which draws weights and order, Sluice trains
and bench/peers/same_run.py does the same; --other-attention: also with another form of attention, which is the noise
floor. From step 101 on, the means of 50 steps must differ by at most 0.3%, or by the floor where that is larger.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE)]
import common  # noqa: E402
import curves  # noqa: E402

LIMIT, WINDOW, AFTER = 0.003, 50, 100
FAULTS = ("order", "decay", "schedule", "clip", "beta", "target")
GPT2 = {"layers": 12, "width": 768, "heads": 12, "vocab": 50257, "padded_vocab": 50304, "gelu": "tanh"}
TINY = {"layers": 2, "width": 64, "heads": 4, "vocab": 257, "padded_vocab": 320, "gelu": "tanh"}


def config_of(model, tokens, sequence, steps, micro_batch, lr):
    """What both sides read. The tenth of the steps is warm-up."""
    return {"model": model, "batch": {"tokens": tokens, "sequence": sequence}, "steps": steps, "micro_batch": micro_batch,
            "optim": {"lr": lr, "lr_end": lr / 10, "warmup_tokens": steps // 10 * tokens, "weight_decay": 0.1, "clip": 1.0,
                      "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}}


REAL = config_of(GPT2, 32768, 1024, 1000, 32, 6e-4)
SMALL = config_of(TINY, 1024, 64, 200, 8, 3e-3)


class Bench:
    def __init__(self, options, config, work, say):
        self.options, self.config, self.work, self.say = options, config, work, say
        self.threads = 1 if options.tiny else 0
        self.peers = []
        (work / "config.json").write_text(json.dumps(config))
        self.data = work / "text"

    def prepare(self, text, tokenizer):
        line = common.output_of(self.options.sluice, "prepare", text, "--tokenizer", tokenizer, "--out", self.data,
                                *self.options.prepare)
        return line.splitlines()[0]

    def keys(self, steps, **batch):
        """The options of a run: Sluice's names of the config's values."""
        model, optim = self.config["model"], self.config["optim"]
        batch = {**self.config["batch"], **batch}
        keys = {f"model.{key}": value for key, value in model.items() if key != "padded_vocab"}
        keys |= {"model.context": self.config["batch"]["sequence"], "data.train": self.data, "data.validation": ""}
        keys |= {f"batch.{key}": value for key, value in batch.items()}
        keys |= {f"optim.{key}": value for key, value in optim.items()} | {"optim.lr_schedule": "cosine"}
        keys |= {"run.tokens": steps * batch["tokens"], "run.save_every": 0, "run.validate_every": 0,
                 "run.sample_every": 0, "plan.head_chunk": 4096 if model["vocab"] > 4096 else 256}
        return [f"--{key}={value}" for key, value in keys.items()]

    def weights(self, seed):
        """Those that a run of Sluice begins with. The first update has rate 0, so one step of eight tokens saves them."""
        folder = self.work / f"initial-{seed}"
        common.output_of(self.options.sluice, "train", "gpt2-124m", "--run.name=initial", "--out", folder,
                         *self.keys(1, tokens=8, sequence=8), "--plan.device=cpu", "--plan.precision=float32",
                         "--plan.micro_batch=1", f"--run.seed={seed}")
        return next((folder / "checkpoints").glob("step-*"))

    def ours(self, seed):
        folder = self.work / f"ours-{seed}"
        command = [self.options.sluice, "train", "gpt2-124m", "--run.name=real", "--out", folder,
                   *self.keys(self.config["steps"]), f"--plan.device={self.options.device}",
                   f"--plan.precision={self.options.precision}", f"--plan.micro_batch={self.config['micro_batch']}",
                   f"--run.seed={seed}", f"--run.threads={self.threads}", *self.options.more]
        done = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"$ {shlex.join(map(str, command))}\n{done.stderr}exit code {done.returncode}")
        self.say(done.stderr.splitlines()[0].replace(str(folder), folder.name))
        return losses_in(folder / "metrics.jsonl")

    def begin_peer(self, name, runs, *more):
        """Starts PyTorch on runs: seed → weights; its losses come in end_peers()."""
        files = {seed: self.work / f"{name}-{seed}.jsonl" for seed in runs}
        rows = [{"seed": seed, "weights": str(folder), "out": str(files[seed])} for seed, folder in runs.items()]
        gpu = self.options.device != "cpu"
        command = [sys.executable, HERE / "peers/same_run.py", "--data", self.data, "--config", self.work / "config.json",
                   "--runs", json.dumps(rows), "--device", "cuda" if gpu else "cpu", "--precision", self.options.precision,
                   "--micro-batch", self.config["micro_batch"], *(["--compile"] if gpu else []), *more]
        log = open(self.work / f"{name}.log", "w+")
        # A cache of its own: what torch compiled for one form of attention serves no other.
        own = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(self.work / f"inductor-{name}"),
               **({} if gpu else {"OMP_NUM_THREADS": "1"})}
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, env=own)
        self.peers.append((name, files, process, log))

    def end_peers(self):
        found = {}
        for name, files, process, log in self.peers:
            code = process.wait()
            log.seek(0)
            text = log.read()
            if code:
                sys.exit(f"{name} ended with exit code {code}:\n{text}")
            print(text, end="", flush=True)
            found |= {(name, seed): losses_in(path) for seed, path in files.items()}
        self.peers.clear()
        return found


def losses_in(path):
    rows = (json.loads(line) for line in path.read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def means(losses, after):
    """Of each 50 steps after the first ones."""
    return [sum(losses[at:at + WINDOW]) / WINDOW for at in range(after, len(losses) - WINDOW + 1, WINDOW)]


def apart(ours, theirs, after=AFTER):
    """Of each 50-step mean, how far it is above the other's."""
    return [a / b - 1 for a, b in zip(means(ours, after), means(theirs, after))]


def largest(parts):
    return max(abs(part) for part in parts)


def report(runs, say):
    """Holds each pair to the limit; `runs`: (name, seed) → losses. Returns whether all hold."""
    seeds = sorted({seed for name, seed in runs if name == "ours"})
    floors = {seed: apart(runs["other", seed], runs["default", seed]) for seed in seeds if ("other", seed) in runs}
    floor = max((largest(values) for values in floors.values()), default=0.0)
    bound, good = max(LIMIT, floor), True
    say(f"noise floor, PyTorch beside PyTorch with another attention: at most {100 * floor:.3f}% in a mean of {WINDOW} steps;"
        f" so the bound is {100 * bound:.3f}%")
    for seed in seeds:
        ours, theirs = runs["ours", seed], runs["default", seed]
        found = apart(ours, theirs)
        worst = largest(found)
        good &= worst <= bound
        say(f"seed {seed}: loss {ours[0]:.4f} at step 1 (PyTorch {theirs[0]:.4f}), {means(ours, AFTER)[-1]:.4f} in the last"
            f" {WINDOW} ({means(theirs, AFTER)[-1]:.4f}); apart by at most {100 * worst:.3f}% of {len(found)} means,"
            f" {100 * sum(map(abs, found)) / len(found):.3f}% on average: {'within' if worst <= bound else 'BEYOND'} the bound")
    say("steps       " + "".join(f"  seed {seed}: Sluice PyTorch  apart" + ("  floor" if seed in floors else "")
                                 for seed in seeds))
    for index in range(len(means(runs["ours", seeds[0]], AFTER))):
        first = AFTER + index * WINDOW + 1
        row = f"{first:>5}-{first + WINDOW - 1:<6}"
        for seed in seeds:
            ours, theirs = means(runs["ours", seed], AFTER)[index], means(runs["default", seed], AFTER)[index]
            row += f"  {ours:>14.4f} {theirs:>7.4f} {100 * (ours / theirs - 1):>+5.2f}%"
            row += f" {100 * floors[seed][index]:>+5.2f}%" if seed in floors else ""
        say(row)
    return good


def save(runs, path):
    path.write_text("".join(json.dumps({"run": name, "seed": seed, "losses": losses}) + "\n"
                            for (name, seed), losses in runs.items()))


def load(paths):
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return {(row["run"], row["seed"]): row["losses"] for row in rows}


def real(options, work, say):
    bench = Bench(options, REAL | {"steps": options.steps}, work, say)
    say(f"sluice sha256 {hashlib.sha256(pathlib.Path(options.sluice).read_bytes()).hexdigest()[:16]}")
    say(bench.prepare(options.text, "gpt2"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ours = pool.submit(lambda: {("ours", seed): bench.ours(seed) for seed in options.seeds})
        weights = dict(zip(options.seeds, pool.map(bench.weights, options.seeds)))
        bench.begin_peer("default", weights)  # compiles while Sluice trains
        runs = ours.result()
    if options.other_attention:
        bench.begin_peer("other", weights, "--attention", "efficient")
    runs |= bench.end_peers()
    save(runs, work / "losses.jsonl")
    return not options.steps > AFTER + WINDOW or report(runs, say)


def tiny(options, work, say):
    """The same scripts in float32 on the CPU: every step's loss agrees, and no fault of the other side does."""
    options.device, options.precision = "cpu", "float32"
    bench = Bench(options, SMALL, work, say)
    sources = sorted((HERE.parent / "docs/decisions").glob("*.md"))
    text = work / "text.txt"
    text.write_bytes(b"\n".join(path.read_bytes() for path in sources))
    say(bench.prepare(text, "bytes"))
    weights = {seed: bench.weights(seed) for seed in (1, 2)}
    runs = {("ours", seed): bench.ours(seed) for seed in weights}
    bench.begin_peer("default", weights)
    runs |= bench.end_peers()
    good = True
    for seed in weights:
        steps = [abs(a / b - 1) for a, b in zip(runs["ours", seed], runs["default", seed])]
        early, worst = max(steps[:20]), largest(apart(runs["ours", seed], runs["default", seed]))
        good &= early <= 2e-6 and worst <= LIMIT
        say(f"seed {seed}: loss {runs['ours', seed][0]:.4f} to {runs['ours', seed][-1]:.4f}; apart by at most {early:.1e} in 20"
            f" steps, {max(steps):.1e} in {len(steps)}, {100 * worst:.4f}% in means of {WINDOW}")
    for fault in FAULTS:
        bench.begin_peer(fault, {1: weights[1]}, "--fault", fault)
    for (fault, _), faulty in bench.end_peers().items():
        worst = largest(apart(runs["ours", 1], faulty))
        early = max(abs(a / b - 1) for a, b in zip(runs["ours", 1][:20], faulty))
        seen = worst > LIMIT or early > 2e-6
        good &= seen
        say(f"fault {fault}: {early:.1e} in 20 steps, {100 * worst:.3f}% in means: {'seen' if seen else 'NOT SEEN'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--text", type=pathlib.Path, default=HERE.parent / "build/corpus/text.txt")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=REAL["steps"])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--other-attention", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--report", type=pathlib.Path, nargs="+", metavar="FILE")
    parser.add_argument("--work", type=pathlib.Path, help="folder that stays; default: one that does not")
    parser.add_argument("--prepare", type=shlex.split, default=[], help="more options of `sluice prepare`")
    parser.add_argument("--more", type=shlex.split, default=[], help="more options of `sluice train`")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lines = []

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say("$ bench/real_run.py " + shlex.join(sys.argv[1:]))
    with tempfile.TemporaryDirectory() as folder:
        work = (options.work or pathlib.Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if options.report:
            options.out, files = options.report[0], options.report[1:]
            runs = load(files)
            good = report(runs, say)
            options.out.with_suffix(".svg").write_text(curves.drawn(runs))
        else:
            good = tiny(options, work, say) if options.tiny else real(options, work, say)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    sys.exit(not good)


if __name__ == "__main__":
    main()
