#!/bin/sh
# Everything that needs a GPU, on a machine that has one and nothing of ours.
#   tools/gpu_run.sh stage BUILD FOLDER   here: programs, their libraries, texts and this script into FOLDER
#   FOLDER/gpu_run.sh PART...             there; parts: ops library beyond goldens repeats training decoding sanitize numbers
#                                        repeat switch use speed rate fast (MODELS=a,b)
# Results go to $OUT (default: results/ beside the script). Exit code 0: every part passed.
set -eu

stage() {
  mkdir -p "$2"
  cp "$0" "$(dirname "$0")/gpu_compare" "$1/test_gpu" "$1/planted_faults" "$1/sluice" "$2/"
  cp "$(dirname "$0")"/../bench/gpu_train.py "$(dirname "$0")"/../bench/peers/common.py \
    "$(dirname "$0")"/../bench/peers/train_step.py "$2/"
  mkdir -p "$2/tests/goldens"
  cp -R "$(dirname "$0")"/../tests/goldens/gpt* "$2/tests/goldens/"
  for program in test_gpu sluice; do
    ldd "$1/$program" | awk '$3 ~ /^\// { print $3 }' | grep -Ev '/lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so' |
      while read -r library; do cp -L "$library" "$2/"; done
  done
  cat build/assets/austen/*.txt >"$2/text.txt" 2>/dev/null || cat docs/*.md docs/*/*.md >"$2/text.txt"
  cp build/assets/gpt2/vocab.bpe "$2/" 2>/dev/null || true
  strip "$2/test_gpu" "$2/planted_faults" "$2/sluice"
}

if [ "${1-}" = stage ]; then stage "$2" "$3"; exit 0; fi

cd "$(dirname "$0")"
HERE=$PWD
OUT=${OUT:-$HERE/results}
mkdir -p "$OUT" work
LD_LIBRARY_PATH=$HERE${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
GPU=--plan.device=cuda:0
sluice() { "$HERE/sluice" "$@"; }

# tests NAME FILTER LINES: those of test_gpu, and the last lines of what they said.
tests() {
  ./test_gpu --gtest_filter="$2" >"$OUT/$1.txt" 2>&1 || { grep -E 'Failure|FAILED' -A8 "$OUT/$1.txt" | head -80; return 1; }
  tail -"$3" "$OUT/$1.txt"
}
# Every op against its double loop, the bits of the CPU; the same on more than 2^31 numbers (beyond).
ops() { tests ops 'Gpu.*' 3; }
# What libraries compute for us: attention by cuDNN, products with epilogues by cuBLASLt.
library() { tests library 'Cudnn.*:GpuProducts.*' 3; }
beyond() { tests beyond 'GpuBeyond.*' 3; }
# What Transformers and PyTorch computed, in float32 and bf16.
goldens() { tests goldens '*Golden*' 3; }
# The same bits twenty times beside copies; two executors in turns and at once.
repeats() { tests repeats 'GpuRepeats.*:Executors.*' 3; }
# The CPU's losses step by step, and that one micro-batch's gradient less shows.
training() { tests training 'GpuTraining.*' 3; grep apart "$OUT/training.txt"; }
decoding() { tests decoding '*Decoding*' 3; grep worst "$OUT/decoding.txt"; }

# The ops at the shapes of their cases under the tools of the toolkit, which must find a fault that was planted for each.
sanitize() {
  filter='Gpu.SomeOf*:Gpu.StateAndMasks*:Gpu.AttentionInBf16*'
  for tool in memcheck racecheck synccheck initcheck; do
    compute-sanitizer --tool $tool ./planted_faults $tool >"$OUT/planted-$tool.txt" 2>&1 || true
    compute-sanitizer --tool $tool --error-exitcode 9 --kernel-name-exclude kernel_substring=cublas \
      --kernel-name-exclude kernel_substring=nvjet ./test_gpu --gtest_filter=$filter >"$OUT/$tool.txt" 2>&1 &
  done
  wait
  status=0
  for tool in memcheck racecheck synccheck initcheck; do
    summary='ERROR SUMMARY|RACECHECK SUMMARY'
    echo "$tool: $(grep -E "$summary" "$OUT/$tool.txt" | tail -1), planted: $(grep -E "$summary" "$OUT/planted-$tool.txt" | tail -1)"
    grep -qE "SUMMARY: 0 (errors|hazards)" "$OUT/$tool.txt" && grep -q '  PASSED  ' "$OUT/$tool.txt" &&
      ! grep -q '  FAILED  ' "$OUT/$tool.txt" || { echo "$tool FAILED"; status=1; }
    grep -qE "SUMMARY: [1-9][0-9]* (error|hazard)" "$OUT/planted-$tool.txt" || { echo "$tool found no planted fault"; status=1; }
  done
  return $status
}

shards() { [ -e work/corpus.bin ] || sluice prepare text.txt --tokenizer bytes --out work/corpus >/dev/null; }

# config NAME FAMILY MORE: 60 steps of 16 sequences of 128 tokens in two micro-batches.
config() {
  cat >"work/$1.toml" <<END
model = { family = "$2", layers = 4, width = 256, heads = 4, context = 128, vocab = 257$3 }
data = { train = "work/corpus" }
batch = { tokens = 2048, sequence = 128 }
optim = { lr = 1e-3, lr_end = 1e-4, lr_schedule = "cosine", warmup_tokens = 20480, eps = 1e-5 }
plan = { micro_batch = 8, head_chunk = 512, precision = "float32" }
run = { tokens = 122880, save_every = 30, validate_every = 0 }
END
}

run_of() {  # NAME CONFIG OPTIONS...
  name=$1 file=$2
  shift 2
  rm -rf "work/$name"
  sluice train "work/$file.toml" --out "work/$name" "$@" >"$OUT/$name.txt" 2>&1 || { cat "$OUT/$name.txt"; return 1; }
}

# CPU and GPU from one seed in float32: losses within 1e-6 at step 1, 1e-5 at step 50. (Its control is `training`.)
numbers() {
  shards
  config gpt2 gpt2 ''
  config dropout gpt2 ', dropout = 0.1'
  config gptj gptj ', rotary = 32, tied = false'
  for model in gpt2 dropout gptj; do
    run_of "$model-cpu" "$model" --plan.device=cpu || return 1
    run_of "$model-gpu" "$model" $GPU || return 1
    ./gpu_compare losses "work/$model-cpu" "work/$model-gpu" 1e-6 1e-5 || return 1
  done
}

digest_of() { ./gpu_compare digest "work/$1"; }
same() { # NAME NAME
  [ "$(digest_of "$1")" = "$(digest_of "$2")" ] && echo "same digest: $1 $2 $(digest_of "$1")" ||
    { echo "digests differ: $1 $(digest_of "$1"), $2 $(digest_of "$2")"; return 1; }
}

# The same bits again, at every recompute level, streamed, and after a stop; in every format of state.
repeat() {
  shards
  config gpt2 gpt2 ', dropout = 0.1'
  status=0
  for form in 'float32 exact float32' 'bf16 exact float32' 'bf16 compact bf16' 'bf16 compact int8'; do
    set -- $form
    key="--plan.precision=$1 --plan.state=$2 --plan.gradients=$3"
    tag=$1-$2-$3
    run_of "$tag" gpt2 $GPU $key
    run_of "$tag-again" gpt2 $GPU $key
    same "$tag" "$tag-again" || status=1
    run_of "$tag-block" gpt2 $GPU $key --plan.recompute=block
    same "$tag" "$tag-block" || status=1
    run_of "$tag-selective" gpt2 $GPU $key --plan.recompute=selective
    same "$tag" "$tag-selective" || status=1
    run_of "$tag-host" gpt2 $GPU $key --plan.homes=host
    same "$tag" "$tag-host" || status=1
    run_of "$tag-eager" gpt2 $GPU $key --eager
    same "$tag" "$tag-eager" || status=1
    rm -rf "work/$tag-again/checkpoints/step-00000060"
    sluice train work/gpt2.toml --out "work/$tag-again" $GPU $key >"$OUT/$tag-resumed.txt" 2>&1 || status=1
    same "$tag" "$tag-again" || status=1
  done
  return $status
}

# A run of 60 steps that goes on on the other device from step 30, unasked, its weights unchanged there, near the losses
# of a run that stayed; resuming verifies the digest that was saved.
switch() {
  shards
  config gpt2 gpt2 ''
  run_of stayed gpt2 --plan.device=cpu
  for way in 'cpu cuda:0' 'cuda:0 cpu'; do
    set -- $way
    name=from-${1%:*}
    run_of $name gpt2 --plan.device=$1
    rm -rf "work/$name/checkpoints/step-00000060"
    before=$(digest_of $name)
    sluice train work/gpt2.toml --out work/$name --plan.device=$2 >"$OUT/$name-resumed.txt" 2>&1 || return 1
    grep 'goes on on another device' "$OUT/$name-resumed.txt" || return 1
    grep -q 'at step 30' "$OUT/$name-resumed.txt" || return 1
    echo "$name: digest $before at the switch, $(digest_of $name) at the end"
    ./gpu_compare losses work/stayed work/$name 1e-6 1e-5 || return 1
    sluice train work/gpt2.toml --out work/$name >"$OUT/$name-again.txt" 2>&1 || return 1
    ! grep 'another device' "$OUT/$name-again.txt" || return 1
  done
}

# Training, evaluation and generation of one small model, beside the CPU.
use() {
  shards
  config gpt2 gpt2 ''
  [ -e work/gpt2-gpu ] || run_of gpt2-gpu gpt2 $GPU
  for device in cpu cuda:0; do
    sluice eval --checkpoint work/gpt2-gpu --data work/corpus --plan.device=$device --json >"$OUT/eval-${device%:*}.json"
    cat "$OUT/eval-${device%:*}.json"
    sluice generate --checkpoint work/gpt2-gpu --prompt 'It was a fine' --max-tokens 200 --temperature 0 \
      --plan.device=$device >"$OUT/generate-${device%:*}.txt"
  done
  cmp "$OUT/generate-cpu.txt" "$OUT/generate-cuda.txt" && echo 'same 200 greedy tokens on CPU and GPU'
}

# Tokens per second of GPT-2 124M in bf16: data are bytes, the model is the published one.
speed() {
  shards
  for micro in ${MICRO:-16}; do
    rm -rf work/speed
    sluice train gpt2-124m --out work/speed $GPU --data.train=work/corpus --data.validation= \
      --plan.micro_batch="$micro" --batch.tokens=131072 --run.tokens=2621440 --run.validate_every=0 --run.sample_every=0 \
      --run.save_every=0 ${SPEED:-} >"$OUT/speed-$micro.txt" 2>&1 || { cat "$OUT/speed-$micro.txt"; return 1; }
    tail -4 "$OUT/speed-$micro.txt"
  done
}

# Decoding of the model that `speed` left, one sequence.
rate() {
  [ -e work/speed ] || MICRO=16 speed >/dev/null || return 1
  sluice generate --checkpoint work/speed --prompt 'It was' --max-tokens 500 --temperature 0 $GPU >/dev/null \
    2>"$OUT/rate.txt" || { cat "$OUT/rate.txt"; return 1; }
  ./gpu_compare rate work/speed "$OUT/rate.txt" 4.3
}

# Whole steps beside compiled PyTorch and the roof, in one run.
fast() {
  python3 gpu_train.py --sluice ./sluice ${MODELS:+--models "$MODELS"} ${FAST:-} --out "$OUT/fast.txt"
}

code=0
for part in "$@"; do
  echo "== $part"
  began=$(date +%s)
  $part || { code=1; echo "$part FAILED"; }
  echo "== $part: $(($(date +%s) - began)) s"
done
exit $code
