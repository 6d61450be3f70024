#!/usr/bin/env python3
"""How many tokens per second does Transformers' `generate` write with a checkpoint folder on these cores?

    bench/peers/generate.py FOLDER [--precision bf16] [--prompt 64] [--new 128] [--runs 5]

One row, KV cache, greedy, a random prompt, exactly --new tokens; the time is that of the whole call, the prompt's
pass included. Prints a JSON line: the median over the runs after one that warms up, and the read bandwidth of this
memory (a sum over 1 GiB on all cores, the best of several). --serve: one run per request (common.py).
"""
import argparse
import time

import common

common.keep_freed_memory()

import torch  # noqa: E402
import transformers  # noqa: E402


def read_bandwidth():
    """Bytes per second."""
    memory = torch.ones(1 << 28, dtype=torch.float32)
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        memory.sum()
        times.append(time.perf_counter() - begin)
    return memory.numel() * memory.element_size() / min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(common.cores())
    bandwidth = round(read_bandwidth() / 1e9, 2)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(options.folder, dtype=dtype).eval()
    prompt = torch.randint(model.config.vocab_size, (1, options.prompt))

    @torch.inference_mode()
    def tokens_per_second():
        begin = time.perf_counter()
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                             max_new_tokens=options.new, eos_token_id=None, pad_token_id=0)
        seconds = time.perf_counter() - begin
        if out.shape[1] != options.prompt + options.new:
            raise RuntimeError(f"{out.shape[1] - options.prompt} tokens instead of {options.new}")
        return options.new / seconds

    tokens_per_second()
    if options.serve:
        common.emit(ready=True, read_gb_per_s=bandwidth)
        return common.serve(lambda: {"tokens_per_second": tokens_per_second()})
    speed = common.median([tokens_per_second() for _ in range(options.runs)])
    common.emit(precision=options.precision, prompt=options.prompt, new=options.new, runs=options.runs,
                tokens_per_second=round(speed, 2), read_gb_per_s=bandwidth)
    return None


if __name__ == "__main__":
    main()
