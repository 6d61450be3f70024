#!/usr/bin/env python3
"""How fast does Sluice train and generate beside PyTorch and Transformers on these cores, and how near the limit?

    bench/train.py [--models 111m,12m] [--precision bf16] [--rounds 3] [--products "PROGRAM --serve"] [--out FILE]

Runs under a Python that has PyTorch and Transformers (bench/run.py makes one). For each model: both sides look for
their best micro-batch, then take turns for --rounds rounds: a `sluice train` of --steps updates (rows of its
metrics.jsonl after the second), as many updates of PyTorch eager and of PyTorch compiled (bench/peers/train_step.py).
With the checkpoint that Sluice saved, `sluice generate` and Transformers' `generate` take turns on the same weights:
64 random ids, 128 new ones, greedy. Medians. The limits:

  training    FLOPs of a token (6N, and attention as a causal model needs it) over the rate that the products alone
              reach: the best of PyTorch's over the update's own (bench/peers/products.py), Sluice's beside them
              (--products: bench_gemm) and what `sluice doctor` measures
  generation  the bytes of the weights and, on average, of the cache, over the memory's read bandwidth: the better of
              `sluice doctor`'s and PyTorch's
"""
import argparse
import array
import json
import pathlib
import random
import shlex
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))
import common  # noqa: E402
from common import output_of, rows_of  # noqa: E402

PROMPT, NEW = 64, 128
CONFIG = """\
model = {{ family = "gpt2", layers = {0.layers}, width = {0.width}, heads = {0.heads}, context = {0.sequence}, \
vocab = {0.vocab}, gelu = "exact", tied = true }}
data = {{ train = "{1}" }}
batch = {{ tokens = {0.tokens}, sequence = {0.sequence} }}
optim = {{ lr = 1e-4, weight_decay = 0.1, clip = 1.0 }}
run = {{ validate_every = 0, save_every = 0, seed = 0 }}
"""


class Sluice:
    """One model's runs of the program, in a folder of their own."""

    def __init__(self, program, shape, precision, work):
        self.program, self.shape, self.precision, self.work = program, shape, precision, work
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self.config, corpus = work / "config.toml", work / "random.bin"
        draw = random.Random(0)
        with open(corpus, "wb") as out:  # a raw shard: 16-bit ids
            array.array("H", (draw.randrange(shape.vocab) for _ in range(64 * shape.tokens))).tofile(out)
        self.config.write_text(CONFIG.format(shape, corpus))
        self.prompt = ",".join(str(draw.randrange(shape.vocab)) for _ in range(PROMPT))

    def train(self, micro_batch, steps):
        """Tokens per second of each update after the second; its checkpoint replaces the last one."""
        out = self.work / "run"
        shutil.rmtree(out, ignore_errors=True)
        output_of(self.program, "train", self.config, "--out", out, f"--plan.micro_batch={micro_batch}",
                  f"--plan.precision={self.precision}", f"--run.tokens={steps * self.shape.tokens}")
        rows = [row for row in rows_of((out / "metrics.jsonl").read_text()) if "loss" in row]
        return [row["tokens_per_second"] for row in rows[2:]]

    def checkpoint(self):
        return max((self.work / "run" / "checkpoints").glob("step-*"))

    def generate(self):
        made = json.loads(output_of(self.program, "generate", "--checkpoint", self.checkpoint(), "--precision",
                                    self.precision, "--prompt-ids", self.prompt, "--max-tokens", NEW,
                                    "--temperature", 0, "--json"))
        return made["tokens_per_second"]


def product_rates(name, options, chosen):
    """GFLOP/s over all products of an update by who measured them, PyTorch's first."""
    shape, command = common.MODELS[name], [sys.executable, PEERS / "products.py", name]
    command += ["--precision", options.precision]
    tokens = chosen["micro_batch"] * shape.sequence
    command += ["--tokens", tokens, "--vocab", chosen["vocab"]]
    if options.products:
        command += ["--beside", f"{options.products} --width={shape.width} --vocab={chosen['vocab']} --tokens={tokens}"]
    total = rows_of(output_of(*command))[-1]
    rates = {"PyTorch": total["pytorch"]}
    if "sluice" in total:
        rates["Sluice"] = total["sluice"]
    if options.doctor:
        rates["doctor (111M)"] = options.doctor[f"{options.precision}_flops"] / 1e9
    return rates


def compare_training(name, sluice, options, show):
    shape = sluice.shape
    found = {size: max(sluice.train(size, 5)) for size in shape.micro_batches()}
    show("Sluice, tokens/s by micro-batch: " + ", ".join(f"{k}: {v:.0f}" for k, v in found.items()))
    best = max(found, key=found.get)
    peer = common.Peer(sys.executable, PEERS / "train_step.py", name, "--precision", options.precision, "--modes",
                       options.modes, "--serve")
    modes = peer.prepared[-1]["ready"]
    for mode in modes:
        tried = [found for found in peer.prepared[:-1] if found["searched"]["mode"] == mode]
        show(f"PyTorch {mode}, by micro-batch (and vocabulary): " + ", ".join(
            "{micro_batch} ({vocab}): ".format(**one["searched"]) + f"{one['tokens_per_second']:.0f}" for one in tried))
    ours, theirs = [], {mode: [] for mode in modes}
    for _ in range(options.rounds):
        ours += sluice.train(best, options.steps + 2)
        for mode, speeds in theirs.items():
            speeds += peer.ask(mode=mode, updates=options.steps)["speeds"]
    if "eager" in modes:
        shares = peer.ask(mode="eager")
        show("PyTorch eager spends {gemm_share:.0%} in products, {attention_share:.0%} in attention".format(**shares))
    peer.close()
    ours, theirs = common.median(ours), {mode: common.median(speeds) for mode, speeds in theirs.items()}
    fastest = max(theirs, key=theirs.get)
    rates = product_rates(name, options, modes[fastest])
    show("products alone, GFLOP/s: " + ", ".join(f"{who} {rate:.0f}" for who, rate in rates.items()))
    if our_rate := rates.get("Sluice", rates.get("doctor (111M)")):
        share = ours * shape.product_flops / (1e9 * our_rate)
        show(f"their FLOPs over the time of Sluice's update: {share:.0%} of Sluice's rate over them alone")
    limit = 1e9 * max(rates.values()) / shape.flops
    return [row(f"train, PyTorch {mode}", ours, speed, limit) for mode, speed in theirs.items()]



def compare_generation(sluice, options, show):
    folder = sluice.checkpoint()
    peer = common.Peer(sys.executable, PEERS / "generate.py", folder, "--precision", options.precision, "--prompt",
                       PROMPT, "--new", NEW, "--serve")
    bandwidth = 1e9 * peer.prepared[-1]["read_gb_per_s"]
    if options.doctor:
        bandwidth = max(bandwidth, options.doctor["measured"]["read_all_threads"])
    ours, theirs = [], []
    for _ in range(max(3, options.rounds)):
        ours.append(sluice.generate())
        theirs.append(peer.ask()["tokens_per_second"])
    peer.close()
    needed = sluice.shape.bytes_per_new_token(options.precision, PROMPT + NEW // 2)
    show(f"generation reads {needed / 1e6:.0f} MB a token; memory gives {bandwidth / 1e9:.1f} GB/s")
    return row("generate, Transformers", common.median(ours), common.median(theirs), bandwidth / needed)


def row(name, ours, peer, limit):
    return f"{name:<26}{ours:>9.1f}{peer:>9.1f}{ours / peer:>7.2f}{limit:>9.1f}{ours / limit:>9.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="111m,12m")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--modes", default="eager,compiled", help="of PyTorch; also max-autotune")
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--products", default="", help="answers for Sluice's products: products.py's --beside")
    parser.add_argument("--no-doctor", dest="with_doctor", action="store_false", help="spare its 20 seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="timed updates of each side in a round")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "bench" / "train")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    lines = []

    def show(line):
        print(line, flush=True)
        lines.append(line)

    show("$ bench/train.py " + shlex.join(word for word in sys.argv[1:]))
    show(common.machine())
    options.doctor = json.loads(output_of(options.sluice, "doctor", "--json")) if options.with_doctor else None
    for name in options.models.split(","):
        shape = common.MODELS[name]
        sluice = Sluice(options.sluice, shape, options.precision, options.work / name)
        show(f"\n{name}, {options.precision}: {shape.layers} x {shape.width}, sequence {shape.sequence}, {shape.tokens}"
             f" tokens per update; {options.rounds} rounds")
        rows = [*compare_training(name, sluice, options, show), compare_generation(sluice, options, show)]
        show(f"{'tokens per second':<26}{'Sluice':>9}{'peer':>9}{'ratio':>7}{'limit':>9}{'of limit':>9}")
        for line in rows:
            show(line)
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
