# What the tests of the whole program start from: a tiny corpus, its shards, a config, a trained
# run. POSIX sh; reads $SLUICE, the binary, and $GOLDENS, the folder of goldens. Every function works in the current folder.

LC_ALL=C
export LC_ALL
# Nothing that was measured on this machine before.
XDG_CACHE_HOME=/nonexistent
export XDG_CACHE_HOME

sluice() { "$SLUICE" "$@"; }
# The same process, not a child of the shell: for commands that are killed.
instead() { exec "$SLUICE" "$@"; }

# As somebody whom file modes bind, root or not.
unprivileged() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --bounding-set=-dac_override,-dac_read_search "$SLUICE" "$@"
  else
    "$SLUICE" "$@"
  fi
}

# For a row of errors.tsv that is about the lack of what /proc/cpuinfo calls so.
without_cpu() { if grep -qw "$1" /proc/cpuinfo; then exit 77; fi; }

# text.txt: about 20 kB of prose, always the same.
text() {
  seq 1 400 | while read -r n; do
    echo "Gate $n was raised by $((n * n % 97)) hands, and the mill turned."
  done > text.txt
}

# corpus.* and corpus-val.*: bytes.
corpus() {
  text
  sluice prepare text.txt --tokenizer bytes --out corpus --validation 0.1 > /dev/null 2>&1
}

# tiny.toml: 2 layers of width 48; 12 steps of 2 sequences of 64 tokens.
config() {
  cat > tiny.toml <<'END'
model = { family = "gpt2", layers = 2, width = 48, heads = 4, context = 64, vocab = 257 }
data = { train = "corpus", validation = "corpus-val" }
batch = { tokens = 128, sequence = 64 }
optim = { lr = 3e-3, lr_end = 3e-4, lr_schedule = "cosine", warmup_tokens = 256 }
plan = { micro_batch = 1, precision = "float32" }
run = { tokens = 1536, save_every = 3, validate_every = 4, validate_tokens = 200, threads = 1 }
END
}

# The same file for a model where every product has four tiles or more and every sum over tokens four
# chunks or more; the micro-batch is left to the plan. 8 steps of 8 sequences, four saves.
tiled_config() {
  cat > tiny.toml <<'END'
model = { family = "gpt2", layers = 3, width = 320, heads = 5, context = 257, vocab = 1003 }
data = { train = "corpus", validation = "corpus-val" }
batch = { tokens = 2056, sequence = 257 }
optim = { lr = 1e-3, lr_end = 1e-4, lr_schedule = "cosine", warmup_tokens = 4112 }
plan = { head_chunk = 64, precision = "float32" }
run = { tokens = 16448, save_every = 2, validate_every = 4, validate_tokens = 257 }
END
}

tiny() { corpus && config; }
tiled() { corpus && tiled_config; }

# run/: trained to its end, checkpoints of steps 6, 9 and 12.
trained() { tiny && sluice train tiny.toml --out run "$@" > /dev/null 2>&1; }

# One bit of the middle byte of a file, the other way round.
flip() {
  middle=$(($(wc -c < "$1") / 2))
  byte=$(od -An -tu1 -j"$middle" -N1 "$1" | tr -d ' ')
  printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$middle" conv=notrunc 2> /dev/null
}

halve() { truncate -s $(($(wc -c < "$1") / 2)) "$1"; }

# hf/: a tiny checkpoint of Transformers' in one of its forms.
hugging_face() { cp -r "$GOLDENS/checkpoints/$1" hf && chmod -R u+w hf; }

# The same, its weights one pickle of the old form: what printf makes of $1.
pickled() {
  hugging_face gpt2-legacy
  printf '\200\002\212\012\154\374\234\106\371\040\152\250\120\031.\200\002M\351\003.\200\002}.\200\002'"$1" \
    > hf/pytorch_model.bin
}

# tune.toml and raw tokens, for a run that begins with hf/.
tuning() {
  printf '\001\000\002\000\003\000\004\000\005\000\006\000\007\000\010\000\011\000\012\000\013\000\014\000\015\000' > ids.bin
  echo 'data = { train = "ids.bin" }
batch = { tokens = 12 }
run = { tokens = 12, threads = 1 }' > tune.toml
}

# From here on there are GPUs as FAKE_CUDA_… say (tests/fake_gpu): a driver that knows of them, and
# libraries. Nothing can be computed on them.
with_gpu() {
  LD_LIBRARY_PATH=$(dirname "$SLUICE")/fake_gpu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
}
