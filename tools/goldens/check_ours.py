#!/usr/bin/env python3
"""Opens a checkpoint folder that Sluice wrote with Transformers, as anyone would.

  check_ours.py DIR                               loads whole, prints what it is
  check_ours.py DIR --weights FILE.safetensors    every tensor has the same bits as in FILE
  check_ours.py DIR --prompt-ids 1,2,3 --out L.safetensors
                                                  logits [1, T, V] of these ids, with `ids` [1, T]

Exit code 0 if all that was asked for holds, 1 if not.
"""

import argparse
import sys

import common
import torch
from safetensors.torch import load_file, save_file


def compare(model, file):
    """Names in one and not in the other, or whose bits differ. A tied head may be in the file."""
    ours, theirs = common.parameters(model), load_file(file)
    if model.config.tie_word_embeddings:
        theirs.pop("lm_head.weight", None)
    wrong = [f"only in one of the two: {name}" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        if not torch.equal(ours[name], theirs[name]):
            wrong.append(f"{name}: {common.distance(ours[name], theirs[name]):.1e} apart")
    return len(ours), wrong


def main():
    parser = argparse.ArgumentParser(description="Load a Sluice checkpoint with Transformers.")
    parser.add_argument("folder")
    parser.add_argument("--weights", help="safetensors file with the weights expected")
    parser.add_argument("--prompt-ids", help="token ids, separated by commas")
    parser.add_argument("--out", help="safetensors file to write the logits to")
    arguments = parser.parse_args()
    model = common.load_model(arguments.folder)
    count = sum(value.numel() for value in common.parameters(model).values())
    print(f"{arguments.folder}: {type(model).__name__}, {count:,} parameters")

    if arguments.weights:
        tensors, wrong = compare(model, arguments.weights)
        if wrong:
            sys.exit("weights differ:\n  " + "\n  ".join(wrong))
        print(f"weights: {tensors} tensors, the same bits as {arguments.weights}")
    if arguments.prompt_ids:
        ids = torch.tensor([[int(part) for part in arguments.prompt_ids.split(",")]])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
        print(f"logits: {list(logits.shape)}, most likely next id {logits[0, -1].argmax().item()}")
        if arguments.out:
            save_file({"ids": ids.int(), "logits": logits.contiguous()}, arguments.out)


if __name__ == "__main__":
    main()
