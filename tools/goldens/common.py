"""What the golden scripts share: reading a case, the distance that DESIGN calls close, loading."""

import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens"


def distance(ours, golden):
    """Relative L2 distance in double: |ours - golden| / |golden|. Shapes must agree."""
    if ours.shape != golden.shape:
        raise ValueError(f"shape {list(ours.shape)}, expected {list(golden.shape)}")
    difference = (ours.double() - golden.double()).norm().item()
    size = golden.double().norm().item()
    return difference / size if size > 0 else (0.0 if difference == 0 else float("inf"))


def worst(ours, golden):
    """The tensor with the largest distance: (name, distance). Both must hold the same names."""
    if ours.keys() != golden.keys():
        raise ValueError(f"names differ: {sorted(ours.keys() ^ golden.keys())}")
    return max(((name, distance(ours[name], golden[name])) for name in golden), key=lambda x: x[1])


def load_model(folder, attention="eager"):
    """A causal language model in float32, as Transformers reads it; any name that is missing,
    unexpected or of another shape is an error here, where Transformers only warns. `attention`
    None: the form that Transformers chooses."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32, output_loading_info=True
    )
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    if wrong:
        raise SystemExit(f"{folder} does not load whole: {wrong}")
    return model.eval()


def parameters(model):
    """name -> parameter, a tied one once (lm_head.weight is then absent)."""
    return dict(model.named_parameters())


def read_case(folder):
    """(meta, tensors of golden.safetensors) of a case folder."""
    folder = pathlib.Path(folder)
    meta = json.loads((folder / "meta.json").read_text())
    return meta, load_file(folder / "golden.safetensors")
