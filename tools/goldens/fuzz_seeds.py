#!/usr/bin/env python3
"""Makes the seeds in tests/fuzz/corpus for torch_file and safetensors: small files of every form."""

import pathlib

import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"


def main():
    torch.manual_seed(1)
    one = torch.arange(6.0).view(2, 3)
    states = {
        "row_major": {"w": one},
        "tied": {"a": one, "b": one, "c": one.t()},
        "types": {str(t).split(".")[1]: torch.zeros(3, dtype=t)
                  for t in (torch.float16, torch.bfloat16, torch.uint8, torch.bool, torch.int64)},
        "scalar": {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4), "empty": torch.zeros(0, 4)},
        "parameter": {"w": torch.nn.Parameter(one)},
        "module": torch.nn.Linear(2, 2).state_dict(),  # with _metadata
    }
    for name, state in states.items():
        torch.save(state, FOLDER / "torch_file" / f"{name}.zip")
        torch.save(state, FOLDER / "torch_file" / f"{name}.legacy", _use_new_zipfile_serialization=False)
        plain = {key: value.detach().clone().contiguous() for key, value in state.items()}
        save_file(plain, FOLDER / "safetensors" / name, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
