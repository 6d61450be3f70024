#!/usr/bin/env python3
"""Times GPT-2 124M's products beside PyTorch, in turns within one run.

    bench/gemm_peer.py BENCH_GEMM [--threads 2] [--rounds 9] [--isa avx512,avx2] [--bf16] [--out FILE]

BENCH_GEMM is the program built from bench/gemm.cpp (cmake -DSLUICE_BENCH=ON). For avx2 the PyTorch of
the comparison is a process of its own that is held to AVX2. Each figure is the median over the rounds; in
a round the two take turns, three products each, after a pause in which the other one's threads stop
spinning and three products, not timed, in which its own wake up. With --bf16 operands, y and dx are bf16; we add dW to float32, PyTorch writes it as bf16, which is
less work. "row" is the forward of one token, in GB of weights per second. "model" weighs each product as
often as the model has it (12 layers, 1 head).
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

TOKENS = 1024
PRODUCTS = {"qkv": (768, 2304, 12), "proj": (768, 768, 12), "fc": (768, 3072, 12),
            "proj2": (3072, 768, 12), "head": (768, 50304, 1)}
PAUSE = 0.25  # seconds; OpenMP's idle threads spin for a while, and there are as many as cores
WARM, TIMED = 3, 3  # products of a turn
PASSES = ("forward", "dx", "dw")
HELD_TO_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                "ATEN_CPU_CAPABILITY": "avx2"}


def torch_product(torch, name, which, dtype):
    """A function that runs the product once, into memory that exists already."""
    def numbers(*shape):
        return (torch.rand(*shape) - 0.5).to(dtype)

    def zeros(*shape):
        return torch.zeros(*shape, dtype=dtype)

    wide_in, wide_out, _ = PRODUCTS[name]
    tokens = 1 if which == "row" else TOKENS
    x, dy = numbers(tokens, wide_in), numbers(tokens, wide_out)
    # GPT-2's layers keep W as [in, out], the embedding (and so the head) as [out, in].
    w = numbers(wide_out, wide_in).t() if name == "head" else numbers(wide_in, wide_out)
    if which in ("forward", "row"):
        out = zeros(tokens, wide_out)
        if name == "head":
            return lambda: torch.mm(x, w, out=out)
        bias = numbers(wide_out)
        return lambda: torch.addmm(bias, x, w, out=out)
    if which == "dx":
        out = zeros(tokens, wide_in)
        return lambda: torch.mm(dy, w.t(), out=out)
    left, right = (dy, x) if name == "head" else (x, dy)
    grad = zeros(left.shape[1], right.shape[1])
    if dtype == torch.bfloat16:
        return lambda: torch.mm(left.t(), right, out=grad)
    return lambda: grad.addmm_(left.t(), right)


def serve_torch(threads, cpu_time, bf16):
    """Answers lines "PRODUCT PASS REPEATS" as bench_gemm --serve does."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    now = time.process_time if cpu_time else time.perf_counter
    key, run = None, None
    for line in sys.stdin:
        name, which, repeats = line.split()
        if key != (name, which):
            key = (name, which)
            run = torch_product(torch, name, which, torch.bfloat16 if bf16 else torch.float32)
            run()
        times = []
        for _ in range(int(repeats)):
            begin = now()
            run()
            times.append(now() - begin)
        print(*times, flush=True)


class Timed:
    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **(environment or {})})

    def ask(self, name, which):
        time.sleep(PAUSE)
        self.process.stdin.write(f"{name} {which} {WARM + TIMED}\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()][WARM:]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(bench, isa, options, show):
    threads, rounds = options.threads, options.rounds
    clock = ["--cpu-time"] if options.cpu_time else []
    kind = "bf16" if options.bf16 else "float32"
    clock += ["--bf16"] if options.bf16 else []
    ours = Timed([bench, f"--isa={isa}", f"--threads={threads}", "--serve", *clock])
    theirs = Timed([sys.executable, os.path.abspath(__file__), "--serve-torch", "--threads",
                    str(threads), *clock], HELD_TO_AVX2 if isa == "avx2" else None)
    held = ", PyTorch held to AVX2" if isa == "avx2" else ""
    show(f"\n{isa}, {threads} threads, {TOKENS} tokens, {kind}{held}; GFLOP/s, median of {rounds}")
    show(f"{'product':<16}{'ours':>8}{'PyTorch':>9}{'ratio':>7}")
    sums = {which: [0.0, 0.0, 0.0] for which in (*PASSES, "model")}
    for name, (wide_in, wide_out, count) in PRODUCTS.items():
        flops = 2.0 * TOKENS * wide_in * wide_out
        for which in PASSES:
            mine, peer = [], []
            for _ in range(rounds):
                mine += ours.ask(name, which)
                peer += theirs.ask(name, which)
            mine, peer = statistics.median(mine), statistics.median(peer)
            show(f"{name + ' ' + which:<16}{flops / mine / 1e9:>8.0f}{flops / peer / 1e9:>9.0f}"
                 f"{peer / mine:>7.2f}")
            for key in (which, "model"):
                for i, value in enumerate((flops, mine, peer)):
                    sums[key][i] += count * value
    for name, (wide_in, wide_out, _) in PRODUCTS.items():
        mine, peer = [], []
        for _ in range(rounds):
            mine += ours.ask(name, "row")
            peer += theirs.ask(name, "row")
        mine, peer = statistics.median(mine), statistics.median(peer)
        moved = (2e-9 if options.bf16 else 4e-9) * wide_in * wide_out
        show(f"{name + ' row, GB/s':<16}{moved / mine:>8.1f}{moved / peer:>9.1f}{peer / mine:>7.2f}")
    for key, (flops, mine, peer) in sums.items():
        show(f"{'sum ' + key:<16}{flops / mine / 1e9:>8.0f}{flops / peer / 1e9:>9.0f}"
             f"{peer / mine:>7.2f}")
    ours.close()
    theirs.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench", nargs="?")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--isa", default="avx512,avx2")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", default="")
    parser.add_argument("--cpu-time", action="store_true",
                        help="measure the process's time: for one thread on a busy machine")
    parser.add_argument("--serve-torch", action="store_true")
    options = parser.parse_args()
    if options.serve_torch:
        return serve_torch(options.threads, options.cpu_time, options.bf16)
    if not options.bench:
        parser.error("the path of bench_gemm is missing")
    lines = []

    def show(line):
        print(line, flush=True)
        lines.append(line)

    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), "")
    show(f"$ bench/gemm_peer.py bench_gemm --threads {options.threads} --rounds {options.rounds}"
         f" --isa {options.isa}{' --bf16' if options.bf16 else ''}{' --cpu-time' if options.cpu_time else ''}")
    show(f"{model}; load before: {os.getloadavg()[0]:.1f} (another process on the cores spoils it)")
    for isa in options.isa.split(","):
        compare(options.bench, isa, options, show)
    if options.out:
        with open(options.out, "w") as out:
            out.write("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
