#!/usr/bin/env python3
"""Our ids against tiktoken's and Hugging Face's, and our merges against Hugging Face's trainer.

  build/venv/bin/pip install -r tools/goldens/requirements.txt
  build/venv/bin/python tools/goldens/bpe.py --sluice build/release/sluice [--strings 1000000]
  build/venv/bin/python tools/goldens/bpe.py --write        # tests/goldens/tokenizers anew

Strings are generated: words of many scripts, white space of every kind, control characters, marks,
emoji, contractions, digits, any code point. Four tokenizers are compared on each: gpt2 (tiktoken
with GPT-2's merges), and three trained here by Hugging Face on text made of the same parts: one
with GPT-2's splitter, one with Llama 3's pattern, both loaded from tokenizer.json, and one as
tiktoken ranks with cl100k's. Then the other way: tokenizers that `sluice prepare` has learnt are given to
Hugging Face. Exit code 0 only if all ids are equal and the planted control is not.
"""

import argparse
import base64
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tiktoken
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests/goldens/tokenizers"
R50K = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
          r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

WORDS = """the of and to in is it's don't WE'LL I'm they've He'd you're 'S 'ſ won'T naïve café über
Straße ångström Ελλάδα Привет мир שלום مرحبا العالم नमस्ते दुनिया สวัสดี 안녕하세요 세계 東京 世界 你好
こんにちは ქართული հայերեն ᏣᎳᎩ ﬁne ǅ ʰ ª ½ Ⅷ ² ٣٤٥ १२३ 0 7 42 123 1234 1234567 3.14 1,000 x=y+1; // /* */
foo_bar fooBar() {} [] <a> "quoted" 'single' -- --- ... !!! ?? #hash @at $5 50% a@b.c http://x.y/z?q=1
😀 👩‍👩‍👧 🇩🇪 ❤️ e\u0301 a\u0308\u0323 \u200b \u200d \ufeff ﷽ 𝔘𝔫𝔦 𐍈 𑁦 \U0001e900 \U000323af \u1c89""".split()
SPACES = [" "] * 12 + ["  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", " \n", "\n ", "\u00a0", "\u2003",
                       "\u3000", "\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\u180e", "\u1680"]


def make_string(rng):
    out = []
    for _ in range(rng.choice((1, 2, 3, 5, 8, 13, 30))):
        kind = rng.random()
        if kind < 0.5:
            out.append(rng.choice(WORDS))
        elif kind < 0.85:
            out.append(rng.choice(SPACES))
        elif kind < 0.9:
            out.append(chr(rng.randrange(1, 0x80)))
        elif kind < 0.93:
            out.append(rng.choice(WORDS)[: rng.randrange(1, 4)].upper())
        elif kind < 0.95:
            out.append(rng.choice((" ", "a", "\n", "é", "0", "=")) * rng.randrange(1, 90))
        else:
            code = rng.randrange(1, rng.choice((0x250, 0x3000, 0x10000, 0x32400, 0x110000)))
            if not 0xD800 <= code < 0xE000:
                out.append(chr(code))
    return "".join(out) or "x"


def train(strings, pre_tokenizer, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(strings, trainer)
    return tokenizer


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split_by(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(False)])


def byte_of_symbol():
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in kept]
    return {**{chr(b): b for b in kept}, **{chr(256 + i): b for i, b in enumerate(others)}}


def ranks_of(tokenizer):
    """Bytes by rank, in the order of its ids, the special token left out."""
    byte = byte_of_symbol()
    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [bytes(byte[c] for c in name) for name, _ in names if name != "<|endoftext|>"]
    return {token: rank for rank, token in enumerate(tokens)}


def gpt2_ranks():
    byte = byte_of_symbol()
    lines = (ROOT / "build/assets/gpt2/vocab.bpe").read_text().split("\n")[1:-1]
    order = sorted(byte, key=ord)
    names = order + [line.replace(" ", "") for line in lines]
    return {bytes(byte[c] for c in name): rank for rank, name in enumerate(names)}


def make_cases(folder, rng):
    """Name, what --tokenizer and --pattern say, and theirs: string to ids."""
    sample = [make_string(rng) for _ in range(20000)]
    cases = [("gpt2", ["gpt2", "--assets", str(ROOT / "build/assets")],
              tiktoken.Encoding("gpt2", pat_str=R50K, mergeable_ranks=gpt2_ranks(),
                                special_tokens={}).encode_ordinary)]
    for name, pre_tokenizer in (("hf-gpt2", byte_level()), ("hf-llama3", split_by(LLAMA3))):
        tokenizer = train(sample, pre_tokenizer, 3000)
        tokenizer.save(str(folder / f"{name}.json"))
        cases.append((name, [str(folder / f"{name}.json")],
                      lambda text, t=tokenizer: t.encode(text).ids))
    ranks = ranks_of(train(sample, split_by(LLAMA3), 3000))
    (folder / "cl100k.tiktoken").write_text("".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    cases.append(("cl100k", [str(folder / "cl100k.tiktoken"), "--pattern", "cl100k"],
                  tiktoken.Encoding("c", pat_str=CL100K, mergeable_ranks=ranks,
                                    special_tokens={}).encode_ordinary))
    return cases


def ours(sluice, arguments, strings):
    text = b"".join(s.encode() + b"\0" for s in strings)
    done = subprocess.run([sluice, "tokenize", "--null", "--tokenizer", *arguments], input=text,
                          stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(strings), (len(lines), len(strings))
    return [[int(word) for word in line.split()] for line in lines]


def ours_in_theirs(sluice, folder, rng):
    """How many strings have other ids where Hugging Face reads the tokenizer.json that we wrote."""
    strings = [make_string(rng) for _ in range(3000)]
    text = folder / "learnt.txt"
    text.write_text("".join(strings), newline="")
    wrong = 0
    for pattern in ("gpt2", "llama3", "cl100k", "none"):
        subprocess.run([sluice, "prepare", text, "--tokenizer", "train:2000", "--pattern", pattern, "--out",
                        folder / "learnt"], stdout=subprocess.PIPE, check=True)
        file = str(folder / "learnt.tokenizer.json")
        theirs = Tokenizer.from_file(file)
        different = sum(theirs.encode(string).ids != mine
                        for string, mine in zip(strings, ours(sluice, [file], strings)))
        print(f"learnt with {pattern}, read by Hugging Face: {different} of {len(strings)} with other ids")
        wrong += different
    return wrong


def compare(arguments):
    rng = random.Random(arguments.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(pathlib.Path(folder), rng)
        done = 0
        while done < arguments.strings:
            strings = [make_string(rng) for _ in range(min(50000, arguments.strings - done))]
            done += len(strings)
            for name, options, theirs in cases:
                for text, mine in zip(strings, ours(arguments.sluice, options, strings)):
                    if mine != (expected := theirs(text)):
                        wrong += 1
                        if wrong <= 20:
                            print(f"{name}: {text!r}\n  ours   {mine}\n  theirs {expected}")
        name, options, theirs = cases[0]
        wrong += ours_in_theirs(arguments.sluice, pathlib.Path(folder), rng)
        control = ours(arguments.sluice, options, ["the  end"])[0] != theirs("the end")
    print(f"{done} strings, {len(cases)} tokenizers: {wrong} with other ids"
          + ("" if control else "; the control was not noticed"))
    return wrong == 0 and control


def trained_merges(strings, pre_tokenizer):
    merges = json.loads(train(strings, pre_tokenizer, 1500).to_str())["model"]["merges"]
    return "".join(" ".join(merge) + "\n" for merge in merges)


def write_goldens():
    """Committed: the three files, 800 strings with the ids of all four, and the merges that Hugging
    Face's trainer learns from these strings."""
    rng = random.Random(7)
    GOLDENS.mkdir(exist_ok=True)
    cases = make_cases(GOLDENS, rng)
    strings = [make_string(rng) for _ in range(800)]
    rows = [json.dumps({"text": text, **{name: theirs(text) for name, _, theirs in cases}},
                       separators=(",", ":"), ensure_ascii=False) for text in strings]
    (GOLDENS / "strings.jsonl").write_text("\n".join(rows) + "\n")
    for name, pre_tokenizer in (("gpt2", byte_level()), ("llama3", split_by(LLAMA3))):
        (GOLDENS / f"trained-{name}.txt").write_text(trained_merges(strings, pre_tokenizer))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default=str(ROOT / "build/release/sluice"))
    parser.add_argument("--strings", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write tests/goldens/tokenizers")
    arguments = parser.parse_args()
    if arguments.write:
        return write_goldens()
    sys.exit(0 if compare(arguments) else 1)


if __name__ == "__main__":
    main()
