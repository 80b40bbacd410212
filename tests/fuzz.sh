#!/bin/sh
# Fuzzes with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer. The harnesses and what
# they assert are in tests/fuzz; every test run replays their corpora without this script.
set -u

usage()
{
    cat <<'END'
Usage: sh tests/fuzz.sh [HARNESS...] [--seconds N] [--runs N] [--jobs N] [--update] [--list]

Builds tests/fuzz with clang in build-fuzz/, runs each harness (without a name: all of them), and
prints a table. Ends with 1 when something was found.

  --seconds N  of each harness (default 60, or no limit with --runs)
  --runs N     executions of each harness
  --jobs N     harnesses at a time (default 1)
  --update     puts the minimised corpus into tests/fuzz/corpus
  --list       prints the names and ends

build-fuzz/corpus/HARNESS keeps every new input from run to run, build-fuzz/findings the inputs that
failed (their log beside them: build-fuzz/logs/HARNESS.log). To see one again:

  build-fuzz/tests/fuzz/fuzz_HARNESS build-fuzz/findings/HARNESS-crash-...
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
build=${COG_FUZZ_BUILD:-$root/build-fuzz}
max_corpus=49152 # bytes of one harness's corpus in the tree

list()
{
    sed -n "s/^ *'\([a-z0-9_]*\)': \[\[.*/\1/p; s/.*harnesses += { '\([a-z0-9_]*\)'.*/\1/p" "$root/tests/fuzz/meson.build" | sort
}

compile()
{
    mkdir -p "$build"
    if [ ! -f "$build/build.ninja" ]; then
        CC=clang CXX=clang++ meson setup "$build" "$root" -Dfuzz=true -Dtests=disabled -Dcuda=disabled \
            -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false --optimization=2 \
            >"$build/build.log" 2>&1 || { cat "$build/build.log" && return 1; }
    fi
    # shellcheck disable=SC2046 # a list of words
    ninja -C "$build" $(for h in "$@"; do echo "tests/fuzz/fuzz_$h"; done) >"$build/build.log" 2>&1 || {
        grep -A 6 -E '^FAILED|error:' "$build/build.log"
        return 1
    }
}

# What a harness's input may be long.
max_len()
{
    case $1 in
    http | tokenizer) echo 8192 ;;
    utf8 | data_url | scheduler) echo 512 ;;
    *) echo 4096 ;;
    esac
}

# Of all that times says this shell has run: what half an hour on a shared machine was worth.
processor_seconds()
{
    awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, "m"); s += t[1] * 60 + t[2] } printf "%.0f", s }' "$1"
}

# fuzz_one HARNESS: runs it and writes its row of the table.
fuzz_one()
{
    h=$1 corpus=$build/corpus/$1 log=$build/logs/$1.log merged=$build/merged/$1
    program=$build/tests/fuzz/fuzz_$1
    rm -rf "$merged"
    mkdir -p "$corpus" "$merged" "$build/findings" "$build/seeds/$h" "$root/tests/fuzz/corpus/$h"
    set -- "-max_len=$(max_len "$h")" -rss_limit_mb=2048 -malloc_limit_mb=256 -timeout=60 -verbosity=1 \
        "-artifact_prefix=$build/findings/$h-" -print_final_stats=1
    if [ -f "$root/tests/fuzz/$h.dict" ]; then
        set -- "$@" "-dict=$root/tests/fuzz/$h.dict"
    fi
    if [ "$h" = http ]; then # looked for once, at the end: other threads allocate while one input runs
        set -- "$@" -detect_leaks=0
    fi
    before=$(find "$corpus" -type f | wc -l)
    "$program" "$@" "-max_total_time=$COG_FUZZ_SECONDS" "-runs=$COG_FUZZ_RUNS" "$corpus" \
        "$root/tests/fuzz/corpus/$h" "$build/seeds/$h" >"$log" 2>&1
    rc=$?
    times >"$log.times" # not from a subshell, which has run nothing
    cpu=$(processor_seconds "$log.times")
    after=$(find "$corpus" -type f | wc -l)
    if [ "$COG_FUZZ_UPDATE" ]; then
        "$program" -merge=1 "-max_len=$(max_len "$h")" "$merged" "$root/tests/fuzz/corpus/$h" "$build/seeds/$h" \
            "$corpus" >"$log.merge" 2>&1 && update "$h" "$merged"
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log" | tail -n 1)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    found=$(find "$build/findings" -name "$h-*" | wc -l)
    [ "$rc" -eq 0 ] || echo "$h" >>"$build/failed"
    printf '%-14s %12s %8s %9s %7s %6s %9s\n' "$h" "${runs:-0}" "$cpu" "${rate:-0}" "${edges:-0}" \
        $((after - before)) "$found" | tee -a "$build/table"
    [ "$rc" -eq 0 ] || grep -E 'not true|ERROR: |runtime error' "$log" | head -n 3
    result=$([ "$rc" -eq 0 ] && echo OK || echo FAIL)
    echo "{\"name\": \"fuzz $h, new inputs\", \"result\": \"$result\"}" >>"$build/results.json"
}

# The smallest units of the merged corpus, up to a size, become the tree's; and where they are small
# the seeds, some of which stand for a property and cover nothing of their own.
update()
{
    kept=$root/tests/fuzz/corpus/$1 seeds=$build/seeds/$1
    find "$kept" -type f ! -name '.*' ! -name 'regression-*' -delete
    if [ "$(find "$seeds" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')" -le 8192 ]; then
        find "$seeds" -type f -exec cp {} "$kept/" \;
    fi
    find "$2" -type f -printf '%s %p\n' | sort -n | while read -r size path; do
        max_corpus=$((max_corpus - size))
        [ "$max_corpus" -ge 0 ] || break
        cp "$path" "$kept/"
    done
}

# For xargs below.
if [ "${1-}" = --one ]; then
    fuzz_one "$2"
    exit 0
fi

harnesses='' seconds='' runs='' jobs=1
COG_FUZZ_UPDATE=
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2 && shift ;;
    --runs) runs=$2 && shift ;;
    --jobs) jobs=$2 && shift ;;
    --update) COG_FUZZ_UPDATE=1 ;;
    --list) list && exit 0 ;;
    --help | -h) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) harnesses="$harnesses $1" ;;
    esac
    shift
done
[ -n "$harnesses" ] || harnesses=$(list)
COG_FUZZ_SECONDS=${seconds:-$([ -n "$runs" ] && echo 0 || echo 60)}
COG_FUZZ_RUNS=${runs:--1}
export COG_FUZZ_SECONDS COG_FUZZ_RUNS COG_FUZZ_UPDATE COG_FUZZ_BUILD="$build"
# Leaks count; memory from malloc holds what was there before, so that reading it shows.
export ASAN_OPTIONS=detect_leaks=1:max_malloc_fill_size=0:quarantine_size_mb=64:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

rm -f "$build/failed" "$build/table" "$build/results.json"
# Harnesses that read files write them there first.
if [ -z "${TMPDIR-}" ] && [ -w /dev/shm ]; then
    export TMPDIR=/dev/shm
fi
# shellcheck disable=SC2086 # a list of words
compile $harnesses || exit 1
mkdir -p "$build/logs"
python3 "$root/tests/fuzz/seeds.py" "$build/seeds" || exit 1
printf '%-14s %12s %8s %9s %7s %6s %9s\n' harness executions cpu_s exec/s edges new findings
# shellcheck disable=SC2086
printf '%s\n' $harnesses | xargs -P "$jobs" -n 1 sh "$0" --one
[ ! -f "$build/failed" ]
