#!/bin/sh
# Builds everything and runs the tests; the last line counts them.
set -u

usage()
{
    cat <<'END'
Usage: sh tests/run.sh [SUITE...]

Installs missing Debian packages, builds, runs the suites, and ends with
"N passed, N failed, N skipped". Without a suite: all of them.

  unit conform golden oracle e2e lint   on the build of gcc
  clients                        clients from npm as they are, same build; skipped where npm cannot
                                 install tests/clients/package-lock.json
  fuzz                           replays the corpora of tests/fuzz there, and fuzzes for seconds
  cuda                           the CUDA backend on a CPU (tests/cudaemu), same build
  nvcc                           the CUDA backend by nvcc, and what became of each kernel; skipped
                                 where there is no nvcc
  clang                          builds with clang, warnings are errors, and runs unit
  asan                           AddressSanitizer and UndefinedBehaviorSanitizer
  tsan                           ThreadSanitizer, on what has threads
  quickstart                     deploy/quickstart.sh: the demo answers its samples as the
                                 reference does
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"
logs=
broken=

# prepare NAME MESON-OPTION...: configures $root/build-NAME and builds $targets there, or everything
prepare()
{
    name=$1 dir=$root/build-$1
    shift
    echo "== $name: building"
    mkdir -p "$dir"
    if [ ! -f "$dir/build.ninja" ]; then
        meson setup "$dir" "$root" -Dtests=enabled "$@" >"$dir/setup.log" 2>&1 || rm -f "$dir/build.ninja"
    fi
    # shellcheck disable=SC2086 # a list of words
    if [ ! -f "$dir/build.ninja" ]; then
        tail -n 20 "$dir/setup.log"
    elif ninja -C "$dir" $targets >"$dir/ninja.log" 2>&1; then
        return 0
    else
        grep -A 6 -E '^FAILED|error:' "$dir/ninja.log" | head -n 60
    fi
    echo "== $name: does not build"
    broken="$broken $name"
    return 1
}

# run_suites NAME TIME-FACTOR SUITE...
run_suites()
{
    name=$1 dir=$root/build-$1 factor=$2
    shift 2
    for suite in "$@"; do
        if ! meson test -C "$dir" --list --no-rebuild --suite "$suite" 2>/dev/null | grep -q ' / '; then
            continue
        fi
        echo "== $name: $suite"
        rm -f "$dir/meson-logs/$suite.json"
        (cd "$root" && $wrap meson test -C "$dir" --no-rebuild --print-errorlogs \
            --timeout-multiplier "$factor" --suite "$suite" --logbase "$suite" 2>&1) |
            grep -vE '^(ninja: |Full log|Expected Fail|Unexpected Pass|Timeout: +0|$)'
        logs="$logs $dir/meson-logs/$suite.json"
    done
}

run_gcc()
{
    prepare gcc -Dwerror=true -Dcuda=disabled || return
    run_suites gcc 1 "$@"
}

run_clang()
{
    CC=clang CXX=clang++ prepare clang -Dwerror=true -Dcuda=disabled || return
    run_suites clang 1 unit
}

# -O1 and frames keep reports readable.
run_asan()
{
    prepare asan -Db_sanitize=address,undefined -Db_lundef=false --optimization=1 -Dcuda=disabled || return
    export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    run_suites asan 5 unit conform golden fuzz e2e-asan
    unset ASAN_OPTIONS UBSAN_OPTIONS
}

run_tsan()
{
    prepare tsan -Db_sanitize=thread -Db_lundef=false --optimization=1 -Dcuda=disabled || return
    export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
    # Its shadow memory needs the addresses that randomisation may take.
    if setarch "$(uname -m)" -R true 2>/dev/null; then
        wrap="setarch $(uname -m) -R"
    fi
    run_suites tsan 10 threads e2e-tsan
    wrap=
    unset TSAN_OPTIONS
}

run_nvcc()
{
    if ! PATH=$PATH:/usr/local/cuda/bin:/opt/cuda/bin command -v nvcc >/dev/null; then
        echo "== nvcc: skipped, there is none"
        mkdir -p "$root/build-nvcc"
        echo '{"name": "nvcc", "result": "SKIP"}' >"$root/build-nvcc/skipped.json"
        logs="$logs $root/build-nvcc/skipped.json"
        return
    fi
    targets=nvcc-checks
    prepare nvcc -Dwerror=true -Dcuda=enabled && run_suites nvcc 1 nvcc
    targets=
}

# libFuzzer on each harness for a moment; tests/fuzz.sh runs longer.
run_fuzz()
{
    echo "== fuzz"
    logs="$logs $root/build-fuzz/results.json"
    sh "$root/tests/fuzz.sh" --seconds 2 --jobs "$(nproc)" || [ -f "$root/build-fuzz/results.json" ] ||
        broken=$((broken + 1))
}

# The first command a person runs, in a release build of its own.
run_quickstart()
{
    echo "== quickstart"
    mkdir -p "$root/build"
    logs="$logs $root/build/quickstart.json"
    if [ ! -f "$root/models/demo/samples.json" ]; then
        echo '{"name": "quickstart", "result": "SKIP"}' >"$root/build/quickstart.json"
        return
    fi
    port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
    result=FAIL
    if sh "$root/deploy/quickstart.sh" --once --as-reference --port "$port" >"$root/build/answers.log" 2>&1; then
        result=OK
        tail -n 1 "$root/build/answers.log"
    else
        tail -n 40 "$root/build/answers.log"
    fi
    echo "{\"name\": \"quickstart\", \"result\": \"$result\"}" >"$root/build/quickstart.json"
}

# the npm packages are installed once for all builds
export CLIENTS_FOLDER="$root/build-clients"
gcc_suites='' others='' wrap='' targets=''
[ $# -gt 0 ] || set -- unit conform golden oracle cuda e2e clients lint fuzz nvcc clang asan tsan quickstart
for suite in "$@"; do
    case $suite in
    unit | conform | golden | oracle | cuda | e2e | clients | lint) gcc_suites="$gcc_suites $suite" ;;
    fuzz) gcc_suites="$gcc_suites fuzz" others="$others fuzz" ;;
    nvcc | clang | asan | tsan | quickstart) others="$others $suite" ;;
    *) usage >&2 && exit 2 ;;
    esac
done

install_packages build test || exit 1
# shellcheck disable=SC2086 # a list of words
[ -z "$gcc_suites" ] || run_gcc $gcc_suites
for suite in $others; do
    "run_$suite"
done
# shellcheck disable=SC2086 # lists of words
python3 "$root/tests/count.py" $logs -- $broken
