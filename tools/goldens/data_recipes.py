#!/usr/bin/env python3
"""Stand-ins for the data sets of configs/data and what nanoGPT's preparations make of them: tests/goldens/data, anew.

  python3 -m venv VENV && VENV/bin/pip install datasets numpy tiktoken tokenizers
  VENV/bin/python tools/goldens/data_recipes.py

OpenWebText comes in its original layout: an archive for each subset, in it packed archives of texts. The texts are cleaned
as the data set's own script does it; splitting and shuffling is done by Hugging Face's datasets, tokenizing by tiktoken.
expected.json has SHA-256 and number of ids of each train.bin and val.bin. Shakespeare is some text with a few characters
that are longer than a byte.
"""

import hashlib
import io
import json
import lzma
import pathlib
import random
import re
import tarfile

import bpe
import datasets
import numpy
import tiktoken

OUT = bpe.ROOT / "tests/goldens/data"
WORDS = ("the mill turned and water rose over stone gate of a it's don't I'll café naïve 東京 😀 \"so\" he said, 1234 42nd "
         "<|endoftext|> end. \t x = y + 1; // no").split(" ")
ENDS = ["\n", "\n\n", "\n\n\n", "\n\n\n\n\n", " ", "\u3000\n", "\u00a0", "\r\n", "\x1f", ""]


def make_text(rng):
    out = [rng.choice(ENDS)]
    for _ in range(rng.choice((0, 1, 5, 12, 30))):
        out.append(rng.choice(WORDS) + rng.choice((" ", " ", " ", "  ", "\n", "\n\n\n", "\n\n\n\n", "\r\n\r\n\r\n")))
    return "".join(out) + rng.choice(ENDS)


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def packed(texts, first):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number, text in enumerate(texts, first):
            add(archive, f"{number:07}-{hashlib.md5(text.encode()).hexdigest()}.txt", text.encode())
    return lzma.compress(plain.getvalue(), preset=9)


def write_owt(texts):
    per_file, number = len(texts) // 4 + 1, 0
    for subset in range(2):
        with tarfile.open(OUT / f"urlsf_subset{subset:02}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for part in range(2):
                some = texts[number:number + per_file]
                add(archive, f"openwebtext/urlsf_subset{subset:02}-{part}_data.xz", packed(some, number))
                number += per_file


def write_lines(texts):
    lines = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    (OUT / "openwebtext.jsonl.xz").write_bytes(lzma.compress(lines.encode(), preset=9))


def summary(arrays):
    return {name: {"ids": len(ids), "sha256": hashlib.sha256(numpy.array(ids, dtype="<u2").tobytes()).hexdigest()}
            for name, ids in arrays.items()}


def owt(texts, encoding):
    cleaned = [re.sub("\n\n\n+", "\n\n", text).strip() for text in texts]
    split = datasets.Dataset.from_dict({"text": cleaned}).train_test_split(test_size=0.0005, seed=2357, shuffle=True)
    return summary({name: [token for text in split[side]["text"] for token in encoding.encode_ordinary(text) + [50256]]
                    for name, side in (("train", "train"), ("val", "test"))})


def shakespeare(text, encode):
    cut = int(len(text) * 0.9)
    return summary({"train": encode(text[:cut]), "val": encode(text[cut:])})


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    encoding = tiktoken.Encoding("gpt2", pat_str=bpe.R50K, mergeable_ranks=bpe.gpt2_ranks(), special_tokens={})
    rng = random.Random(2357)
    texts = [make_text(rng) for _ in range(2500)]
    write_owt(texts)
    write_lines(texts)
    play = "".join(make_text(rng).replace("\r", "") for _ in range(60))
    (OUT / "input.txt").write_text(play, encoding="utf-8", newline="\n")
    place = {c: i for i, c in enumerate(sorted(set(play)))}
    expected = {"openwebtext": owt(texts, encoding), "shakespeare": shakespeare(play, encoding.encode_ordinary),
                "shakespeare-char": shakespeare(play, lambda text: [place[c] for c in text])}
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
