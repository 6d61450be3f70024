#!/usr/bin/env python3
"""Ours in theirs: a checkpoint that Sluice saved from a golden case's weights, without a step of
training, is the same model to Transformers.

  interop.py SLUICE_FOLDER CASE_FOLDER      e.g. interop.py run/checkpoints/step-00000000 \\
                                                            tests/goldens/gpt2-a

Weights must have the same bits, logits must be within 1e-5 of the golden, and with two rows of one
weight exchanged both comparisons must fail. Exit code 0 or 1.
"""

import argparse
import sys

import common
import torch

TOLERANCE = 1e-5


def logits_distance(model, golden):
    with torch.no_grad():
        logits = model(input_ids=golden["ids"].long(), use_cache=False).logits
    return common.distance(logits[:, golden["logits_positions"].long()], golden["logits"])


def unequal(ours, theirs):
    """Names whose bits differ, or that only one has."""
    shared = ours.keys() & theirs.keys()
    return sorted(ours.keys() ^ theirs.keys()) + sorted(
        name for name in shared
        if ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name]))


def swap_two_rows(model):
    names = ("attn.c_attn.weight", "attn.q_proj.weight")
    name, weight = next(x for x in common.parameters(model).items() if x[0].endswith(names))
    with torch.no_grad():
        weight[[0, 1]] = weight[[1, 0]]
    return name


def main():
    parser = argparse.ArgumentParser(description="Hold a Sluice checkpoint against a golden case.")
    parser.add_argument("ours", help="checkpoint folder that Sluice wrote")
    parser.add_argument("case", help="folder in tests/goldens")
    arguments = parser.parse_args()
    meta, golden = common.read_case(arguments.case)
    model, theirs = common.load_model(arguments.ours), common.load_model(arguments.case)

    wrong = unequal(common.parameters(model), common.parameters(theirs))
    if wrong:
        sys.exit(f"{meta['case']}: weights differ: {', '.join(wrong)}")
    error = logits_distance(model, golden)
    if not error <= TOLERANCE:
        sys.exit(f"{meta['case']}: logits are {error:.1e} from the golden, allowed {TOLERANCE}")

    swapped = swap_two_rows(model)
    control = logits_distance(model, golden)
    found = unequal(common.parameters(model), common.parameters(theirs))
    if control <= TOLERANCE or found != [swapped]:
        sys.exit(f"{meta['case']}: two rows of {swapped} exchanged, and nothing noticed")
    print(f"{meta['case']}: {len(common.parameters(theirs))} weights the same bits, logits within "
          f"{error:.1e}; with two rows of {swapped} exchanged {control:.1e}")


if __name__ == "__main__":
    main()
