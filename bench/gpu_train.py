#!/usr/bin/env python3
"""Does Sluice train faster than PyTorch on this GPU, and how near is it to what the GPU allows?

    bench/gpu_train.py --sluice FOLDER/sluice [--models gpt2-124m,gigagpt-1.3b] [--seconds 4] [--out FILE]

For each model full steps on random tokens in bf16, with gradients clipped and AdamW once per update: of Sluice at the
best of some micro-batches, in state `exact` with float32 gradients; of PyTorch compiled (bench/peers/train_step.py:
float32 master weights, bf16 autocast, default attention, fused AdamW) at its best; and of Sluice once more. A row has
the tokens per second of both, their ratio, the roof of Sluice's very command as `sluice bench` measures it in the
same run, and the share of it. Before, the rate of a product of 8192 cubed: what this GPU is.
"""
import argparse
import json
import pathlib
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE)]  # also beside its peers in one folder
import common  # noqa: E402

# Micro-batches to choose from, and more options of Sluice: the head takes as many tokens at once as
# a micro-batch has, up to 16,384.
CHUNK = ["--plan.head_chunk=16384"]
OURS = {"gpt2-124m": ([32, 64], CHUNK), "gigagpt-1.3b": ([8, 16], CHUNK), "gpt2-1558m": ([8, 16], CHUNK),
        "cerebras-gpt-6.7b": ([4], CHUNK)}
PEER = {"gpt2-124m": "64", "gigagpt-1.3b": "16", "gpt2-1558m": "8", "cerebras-gpt-6.7b": "2"}


def ours(options, model, micro_batch, more, roof=False):
    tokens = common.MODELS[model].tokens
    command = [options.sluice, "bench", model, "--json", "--plan.device=cuda:0", "--plan.precision=bf16",
               f"--batch.tokens={tokens}", f"--plan.micro_batch={micro_batch}", "--seconds", options.seconds,
               "--steps", options.steps, *more]
    return json.loads(common.output_of(*command, *([] if roof else ["--no-roof"])))


def peer(model, updates):
    script = next(path for path in (HERE / "peers" / "train_step.py", HERE / "train_step.py") if path.exists())
    rows = common.rows_of(common.output_of(
        sys.executable, script, model, "--device", "cuda", "--modes", "compiled", "--micro-batches", PEER[model],
        "--updates", updates))
    return rows[-1]


def gpu():
    fields = "name,driver_version,temperature.gpu,power.draw,clocks.sm"
    done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--models", default=",".join(OURS))
    parser.add_argument("--seconds", type=int, default=4, help="of steps of each candidate of Sluice")
    parser.add_argument("--steps", type=int, default=4, help="of Sluice at least, however long they take")
    parser.add_argument("--updates", type=int, default=8, help="of PyTorch")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--unordered", action="store_true", help="a second row: attention's faster gradient")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    lines = ["$ bench/gpu_train.py " + shlex.join(sys.argv[1:]), gpu()]

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say(f"{'tokens per second':<20}{'Sluice':>9}{'batch':>7}{'PyTorch':>9}{'batch':>7}{'ratio':>7}{'roof':>9}{'of roof':>9}{'MFU':>7}")
    for model in options.models.split(","):
        sizes, more = OURS[model]
        found = {size: ours(options, model, size, more) for size in sizes} if len(sizes) > 1 else {}
        best = max(sizes, key=lambda size: found[size]["tokens_per_second"] if found else 0)
        theirs = None if options.no_peer else peer(model, options.updates)
        row = ours(options, model, best, more, roof=True)
        value, roof = row["tokens_per_second"], row["roof"]["tokens_per_second"]
        other = theirs["tokens_per_second"] if theirs else 0
        say(f"{model:<20}{value:>9.0f}{best:>7}{other:>9.0f}{theirs['micro_batch'] if theirs else 0:>7}"
            f"{value / other if other else 0:>7.2f}{roof:>9.0f}{100 * value / roof:>8.1f}%"
            f"{100 * (row['mfu'] or 0):>6.1f}%")
        if options.unordered:
            other = ours(options, model, best, [*more, "--plan.attention=cudnn-unordered"])["tokens_per_second"]
            say(f"    with attention's gradient summed in any order: {other:.0f}")
        say("    " + ", ".join([f"{size}: {row['tokens_per_second']:.0f}" for size, row in found.items()] +
                              [" ".join(more)]) +
            f" in the search; a large product {(row['ceiling_flops'] or 0) / 1e12:.0f} TFLOP/s; {gpu()}")
    if options.out:
        pathlib.Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
