#!/usr/bin/env bash
# Every figure of the project that needs a GPU, the most valuable first, in 15 minutes or less. In the root of a checkout:
#
#     bash tools/gpu_figures.sh first               tests, routing, training steps, then seeds of `affine` (10 minutes)
#     BUDGET=280 bash tools/gpu_figures.sh rest     the field in `overlap`, `mnist` and `affine`; then `throughput`
#     BUDGET=170 bash tools/gpu_figures.sh throughput  it alone
#     BUDGET=280 bash tools/gpu_figures.sh seeds    further seeds of `affine`, of as many epochs: SEEDS="3 4"
#
# In $OUT it leaves log.txt, figures.jsonl (a line for each measurement), results.tgz (the cells' results and logs) and
# tests.txt; they are whole after each stage, and every few seconds while cells run, so that nothing that was measured
# is lost where the time is cut. `python tools/gpu_results.py keep` puts them into results/, `make docs` into the tables.
#
#     BUDGET   seconds that this call may take: 580, or 280 for the second of two
#     DIGITS   the folder of MNIST's four files (.gz or not); .carry/mnist where that is there, else what auto finds
#     EPOCHS   of affine; else what fits into the time, for each of SEEDS ("0 1 2")
#     CHECKS   0 leaves out the tests and equality of first; 1 runs the tests beside rest, too
#     SPEEDS   names what is timed, STAGE=SECONDS each; TIMES: seconds that rest keeps for throughput
#     SEEDS, OVERLAP_EPOCHS, MNIST_EPOCHS   of the field; AT_ONCE: how many of its networks train at once (6)
#     JOBS     the field's networks that are still missing, "SUITE MODEL SEED [ARGUMENT]..., ...": the machine has no results
#              of before, and arguments are those of `capsbench run`, as in "affine capsnet 0 --set capsnet.shared=true"
#     OUT, RUNS   what comes back; and the folder of data, checkpoints and results, which a second call goes on with
#     TINY=1 DEVICE=cpu   tries it all on a CPU
set -u
PART=${1:-first}
case $PART in first | seeds | rest | throughput) ;; *) echo "gpu_figures.sh first|seeds|rest|throughput, not $PART" >&2; exit 2 ;; esac
PY=${PY:-python3}
export DEVICE=${DEVICE:-cuda} TINY=${TINY:-0} OUT=${OUT:-gpu-figures} RUNS=${RUNS:-/tmp/capsbench-gpu}
BUDGET=${BUDGET:-$([ "$PART" = first ] && echo 580 || echo 280)}
KEEP=10 # seconds kept for the end
TIMES=${TIMES:-150}
RESERVE=0 # seconds that cells leave to what comes after them
[ -n "${DIGITS:-}" ] || { [ "$TINY" = 0 ] && [ -d .carry/mnist ] && DIGITS=.carry/mnist || DIGITS=auto; }
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FIGURES="$RUNS/figures-$PART.jsonl"
mkdir -p "$OUT" "$RUNS"
rm -f "$FIGURES"
SECONDS=0
exec > >(tee -a "$OUT/log.txt") 2>&1

left() { echo $((BUDGET - KEEP - SECONDS)); }

pack() { # what there is so far, whole at every moment
  cat "$RUNS"/figures-*.jsonl >"$OUT/.figures" 2>/dev/null && mv -f "$OUT/.figures" "$OUT/figures.jsonl" || rm -f "$OUT/.figures"
  find "$RUNS" \( -path "$RUNS/checkpoints" -o -path "$RUNS/data" \) -prune -o \
    \( -name '*.json' -o -name '*.jsonl' -o -name '*.txt' \) -printf '%P\0' |
    tar czf "$OUT/.results" -C "$RUNS" --null -T - && mv -f "$OUT/.results" "$OUT/results.tgz"
}

limited() { # limited SECONDS COMMAND...: never past the budget
  local most
  most=$(left)
  [ "$1" -lt "$most" ] && [ "$TINY" = 0 ] && most=$1
  [ "$most" -ge 3 ] || { echo "no time left for: ${*:2}"; return 1; }
  timeout --kill-after=5 "$most" "${@:2}"
}

stage() { # stage NAME COMMAND...
  local name=$1 begun=$SECONDS rc
  echo "=== $name: $(left) s left"
  "${@:2}"
  rc=$?
  echo "=== $name: exit code $rc after $((SECONDS - begun)) s"
  pack
  return $rc
}

figures() { # figures SECONDS STAGE=SECONDS...: a process that died is started again, and goes on after what there is
  local attempt rc
  for attempt in 1 2 3; do
    limited "$1" "$PY" tools/gpu_figures.py "${@:2}"
    rc=$?
    [ "$rc" = 0 ] || [ "$rc" = 124 ] || [ "$rc" = 1 ] && break
    echo "attempt $attempt: exit code $rc"
  done
  return $rc
}

compile() { # the kernels of the paper's networks, by several processes, into the caches on disk
  local one pids=()
  [ "$DEVICE" = cuda ] || return 0
  for one in float32:exact float32:detached bfloat16:exact bfloat16:detached compiled:exact compiled:detached; do
    limited 60 "$PY" tools/gpu_figures.py "compile:$one" &
    pids+=($!)
  done
  wait "${pids[@]}"
}

checks() { # nothing is timed here, so that all run at once
  local rc compiling tests
  compile &
  compiling=$!
  limited 90 "$PY" -m pytest -q -rs --durations=8 tests/gpu >"$OUT/tests.txt" 2>&1 &
  tests=$!
  figures 70 machine=5 equality=45
  rc=$?
  wait $tests || rc=$?
  wait $compiling
  tail -n 20 "$OUT/tests.txt"
  return $rc
}

cell() { # cell SUITE SEED ARGUMENT...: cells of a suite, in the time that is left
  local log=$RUNS/$1-$2-$BASHPID.txt
  OMP_NUM_THREADS=${THREADS:-2} limited $(($(left) - RESERVE)) "$PY" -m capsbench run --suite "$1" --seeds "$2" --preset "$PRESET" \
    --digits "$DIGITS" --device "$DEVICE" --out "$RUNS" "${@:3}" --json >/dev/null 2>"$log" # which draws no charts
  local rc=$?
  echo "    $1, seed $2, ${*:3}: exit code $rc with $(left) s left"
  grep "images/s" "$log" | tail -n 1 | cut -c1-200
  [ "$rc" = 0 ] || tail -n 3 "$log"
  return $rc
}

finish() { # waits for processes, and keeps what there is every few seconds
  local one rc=0
  while sleep 2 && kill -0 "$@" 2>/dev/null; do pack; done
  for one in "$@"; do wait "$one" || rc=$?; done
  return $rc
}

affine() { # all seeds of both networks at once: each waits for its host now and then
  local fit seed pids=()
  if [ "$TINY" = 0 ]; then
    EPOCHS=${EPOCHS:-$(cat "$RUNS/epochs" 2>/dev/null)} # seeds of one table are alike
    fit=$("$PY" tools/gpu_results.py fit "$OUT/figures.jsonl" "$(left)" ${SEEDS:-0 1 2} ${EPOCHS:+--epochs "$EPOCHS"}) ||
      { echo "no time for a seed"; return 1; }
    EPOCHS=${fit%% *} SEEDS=${fit#* }
    echo "$EPOCHS" >"$RUNS/epochs"
    [ "$EPOCHS" = 20 ] || SHORT+=(--set "epochs=$EPOCHS")
    echo "seeds $SEEDS, $EPOCHS epochs"
  fi
  for seed in ${SEEDS:-0}; do
    cell affine "$seed" --model capsnet "${SHORT[@]}" "${CAPSNET[@]}" &
    pids+=($!)
    cell affine "$seed" --model cnn-pool "${SHORT[@]}" "${CNN_POOL[@]}" &
    pids+=($!)
  done
  finish "${pids[@]}"
}

field() { # the paper's networks and what their claims must beat, seed by seed, then others; AT_ONCE at once
  local seed job suite model rest changes pids=() jobs=()
  IFS=, read -ra jobs <<<"${JOBS:-}"
  [ ${#jobs[@]} = 0 ] && for seed in ${SEEDS:-0 1 2}; do
    for job in "overlap capsnet" "overlap cnn-pair" "mnist capsnet" "affine resnet-gap" "mnist cnn"; do jobs+=("$job $seed"); done
  done && for seed in ${SEEDS:-0 1 2}; do
    for job in "overlap resnet-gap" "mnist resnet-gap" "affine stn"; do jobs+=("$job $seed"); done
  done
  mkdir -p "$RUNS/ended"
  for job in "${jobs[@]}"; do
    [ -e "$RUNS/ended/$job" ] && continue # in a call before this one
    while [ "$(jobs -rp | wc -l)" -ge "${AT_ONCE:-6}" ]; do sleep 1 && pack; done
    [ "$(left)" -gt $((RESERVE + 20)) ] || break
    read -r suite model seed rest <<<"$job"
    changes=(--model "$model" $rest)
    [ "$suite$TINY" = overlap0 ] && changes+=(--set variants=1 --set "epochs=${OVERLAP_EPOCHS:-40}" --set schedule=one-cycle)
    [ "$suite$TINY" = mnist0 ] && changes+=(--set "epochs=${MNIST_EPOCHS:-20}" --set schedule=one-cycle)
    [ "$model" = capsnet ] && changes+=("${CAPSNET[@]}")
    { cell "$suite" "$seed" "${changes[@]}" && touch "$RUNS/ended/$job"; } &
    pids+=($!)
  done
  [ ${#pids[@]} = 0 ] || finish "${pids[@]}"
}

throughput() { # a cell for each size, as what a cell has timed is lost where the time is cut
  local size short=(--set iterations=1) preset=smoke
  [ "$TINY" = 1 ] || preset=small short=(--set batches=128,1024 --set iterations=3 --set compiled=false --set seconds=0.15 --set threads=0)
  for size in 40 28; do
    PRESET=$preset cell throughput 0 --set "image_sizes=$size" "${short[@]}" || return
    pack
  done
}

PRESET=paper SHORT=() CAPSNET=() CNN_POOL=()
if [ "$TINY" = 1 ]; then
  PRESET=smoke SHORT=(--set rotation=0 --set shear=0 --set scale=1 --set variants=1)
  CAPSNET=(--set capsnet.channels=4 --set capsnet.types=1) CNN_POOL=(--set cnn-pool.channels=2,4)
fi
FAILED=0
pack # a call before this one may have left figures
if [ "$PART" = first ]; then
  if [ "${CHECKS:-1}" = 0 ]; then stage compile compile; else stage checks checks || FAILED=1; fi
  SPEEDS=${SPEEDS:-rates=6 routing=45 compiled=25 steps=30 answers=8 profile=12 streams=3}
  stage speeds figures 160 machine=5 $SPEEDS || FAILED=1
fi
"$PY" tools/gpu_results.py sound "$OUT/figures.jsonl" || CAPSNET+=(--set capsnet.implementation=blocked)
if [ "$PART" = rest ]; then
  [ "${CHECKS:-0}" = 1 ] && { limited 150 "$PY" -m pytest -q -rs tests/gpu >"$OUT/tests.txt" 2>&1 & }
  RESERVE=$((TIMES + KEEP))
  stage field field || FAILED=1
  RESERVE=0
  [ "$TIMES" = 0 ] || stage throughput throughput || FAILED=1
elif [ "$PART" = throughput ]; then
  stage throughput throughput || FAILED=1
else
  stage affine affine || FAILED=1
fi
"$PY" tools/gpu_results.py table "$OUT/figures.jsonl" | tee "$OUT/table.txt"
pack
ls -l "$OUT"
echo "=== done after $SECONDS s"
exit $FAILED
