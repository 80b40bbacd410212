#!/bin/sh
# Everything that only a GPU can show, in one command and within ten minutes.
set -u

usage()
{
    cat <<'END'
Usage: sh tools/gpu-check.sh [OPTION...]

Builds for the GPU of this machine, runs the conformance, parity and engine tests on it, looks for
bad accesses and races with compute-sanitizer, measures the published shapes with random weights
made on the device, measures PyTorch with the same weights, prints a record in Markdown and adds it
to docs/performance.md. Carries and downloads no weights. Exit status 77: there is no GPU.

  --shape NAME     v1 (default), v2 or tiny; repeatable
  --no-bench       tests only
  --no-torch       without PyTorch
  --record FILE    instead of docs/performance.md
  --pack DIR       needs no GPU: builds for all architectures and gathers what a machine without
                   compilers or libraries needs in DIR
  --capability C   with --pack: for GPUs of that compute capability only, such as 9.0; smaller
  --packed DIR     takes the programs from there instead of building
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=deploy/gpu.sh
. "$root/deploy/gpu.sh"
record=$root/docs/performance.md shapes='' bench=1 torch=1 pack='' packed='' capability=''
while [ $# -gt 0 ]; do
    case $1 in
    --shape) shapes="$shapes ${2:?--shape needs a name}" && shift ;;
    --no-bench) bench='' ;;
    --no-torch) torch='' ;;
    --record) record=${2:?--record needs a file} && shift ;;
    --pack) pack=${2:?--pack needs a folder} && shift ;;
    --capability) capability=${2:?--capability needs a number} && shift ;;
    --packed) packed=${2:?--packed needs a folder} && shift ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

# What is built, and where a build has it.
programs='tests/conform/conform_gpu tests/golden/golden tests/unit/test_engine tools/bench_device cogwheel'
begin=$(date +%s)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
: >"$work/checks"

seconds_so_far()
{
    echo $(($(date +%s) - begin))
}

# step NAME LIMIT COMMAND...: one line in the record; output only when it fails. 77 is a skip.
step()
{
    name=$1 limit=$2
    shift 2
    echo "== $name" >&2
    at=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$work/log" 2>&1
    status=$?
    took=$(($(date +%s) - at))
    passed=$(grep -c '^ok ' "$work/log")
    case $status in
    0) result="passed" ;;
    77) result="skipped" ;;
    124 | 137) result="FAILED: not done within $limit s" ;;
    *) result="FAILED: status $status" ;;
    esac
    [ "$passed" -eq 0 ] || result="$result ($passed cases)"
    case $result in
    FAILED*)
        failed=$((failed + 1))
        grep -vE '^ok ' "$work/log" | tail -n 40 >&2
        ;;
    esac
    echo "   $result, $took s" >&2
    echo "| $name | $result | $took |" >>"$work/checks"
    return "$status"
}

# build DIR MESON-OPTION...
build()
{
    dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        meson setup --buildtype=release "$dir" "$root" -Dtests=enabled "$@" -Dcuda=enabled || return 1
    fi
    # shellcheck disable=SC2086 # a list of words
    ninja -C "$dir" $programs
}

# The programs, and the libraries they need but for those of the C library.
pack()
{
    # shellcheck disable=SC2046 # a list of words
    build "$root/build-gpu-pack$capability" ${capability:+$(gpu_options "$capability")} || return 1
    mkdir -p "$1/lib"
    for program in $programs; do
        strip -o "$1/${program##*/}" "$root/build-gpu-pack$capability/$program" || return 1
        ldd "$root/build-gpu-pack$capability/$program"
    done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(libc|libm|libdl|librt|libpthread|ld-linux[^/]*)\.so' |
        while read -r library; do
            cp -L "$library" "$1/lib/"
        done
    echo "$1: $(du -sh "$1" | cut -f 1), for sh tools/gpu-check.sh --packed"
}

# Every fixture in both numeric modes.
# shellcheck disable=SC2016 # for the shell that runs it
golden_loop='for fixture in "$1"/*/; do
    [ -f "$fixture/cases.json" ] || continue
    for mode in f32 bf16; do
        "$0" "${fixture%/}" "$mode" cuda || exit
    done
done'

# A Python whose PyTorch sees the device.
find_torch()
{
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# The JSON lines go to the file named first; what else a program says stays in the log.
# shellcheck disable=SC2016
to_file='file=$0 && exec "$@" >"$file"'

# measure SHAPE: ours, PyTorch's, ours again, so that a drifting clock shows
measure()
{
    step "times, $1" 120 sh -c "$to_file" "$work/ours-$1-1" "$bin/bench_device" --backend cuda --shape "$1" --seconds 0.5
    if [ -n "$python" ]; then
        if step "logits for PyTorch, $1" 60 "$bin/bench_device" --backend cuda --shape "$1" \
            --logits "$work/logits"; then
            step "PyTorch has the same logits, $1" 60 "$python" "$root/tools/bench_torch.py" \
                --shape "$1" --device cuda --check "$work/logits"
        fi
        step "times of PyTorch, $1" 200 sh -c "$to_file" "$work/torch-$1" "$python" "$root/tools/bench_torch.py" \
            --shape "$1" --device cuda --seconds 0.3
    fi
    step "times again, $1" 120 sh -c "$to_file" "$work/ours-$1-2" "$bin/bench_device" --backend cuda --shape "$1" --seconds 0.5
}

write_record()
{
    echo "## $(date -u +%Y-%m-%d), $gpu"
    echo
    echo "Driver $driver; $(git -C "$root" describe --always --dirty 2>/dev/null || echo 'no git')," \
        "$(nproc) CPU cores; $(seconds_so_far) s in all."
    echo
    echo '| check | result | s |'
    echo '|---|---|---|'
    cat "$work/checks"
    if [ -n "$bench" ]; then
        echo
        find "$work" -name "ours-*" -o -name "torch-*" | sort | xargs python3 "$root/tools/bench_report.py"
        echo
        echo "Clocks, power and temperature at the end: $(nvidia-smi -i 0 --format=csv,noheader \
            --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu 2>/dev/null)."
    fi
}

if [ -n "$pack" ]; then
    pack "$pack"
    exit
fi
if ! gpu=$(nvidia-smi -i 0 --query-gpu=name --format=csv,noheader 2>/dev/null) || [ -z "$gpu" ]; then
    echo "There is no NVIDIA GPU here, or nvidia-smi does not see it." >&2
    exit 77
fi
driver=$(nvidia-smi -i 0 --query-gpu=driver_version --format=csv,noheader)
capability=$(gpu_capability)
echo "$gpu, compute capability $capability, driver $driver" >&2

bin=$work/bin
mkdir "$bin"
if [ -n "$packed" ]; then
    packed=$(cd "$packed" && pwd) || exit 1
    LD_LIBRARY_PATH=$packed/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    from=$packed
else
    # shellcheck source=deploy/packages.sh
    . "$root/deploy/packages.sh"
    install_packages build test || exit 1
    from=$root/build-gpu
fi
if [ -z "$packed" ]; then
    at=$(date +%s)
    # shellcheck disable=SC2046 # a list of words
    if ! build "$from" $(gpu_options "$capability") >"$work/log" 2>&1; then
        tail -n 40 "$work/log" >&2
        exit 1
    fi
    echo "| build for compute capability $capability | passed | $(($(date +%s) - at)) |" >>"$work/checks"
fi
for program in $programs; do
    if [ -n "$packed" ]; then
        ln -s "$from/${program##*/}" "$bin/"
    else
        ln -s "$from/$program" "$bin/"
    fi
done

export COG_REQUIRE_GPU=1 COG_SOURCE_ROOT="$root" CMOCKA_MESSAGE_OUTPUT=TAP
step conformance 60 "$bin/conform_gpu"
step 'parity with the reference' 90 sh -c "$golden_loop" "$bin/golden" "$root/tests/golden/fixtures"
step engine 60 "$bin/test_engine"
for tool in memcheck racecheck initcheck synccheck; do
    if command -v compute-sanitizer >/dev/null 2>&1; then
        step "compute-sanitizer $tool" 40 compute-sanitizer --tool "$tool" --error-exitcode 1 \
            --print-limit 20 "$bin/conform_gpu"
    else
        echo "| compute-sanitizer $tool | skipped: it is not installed | 0 |" >>"$work/checks"
    fi
done

python=
[ -z "$torch" ] || python=$(find_torch)
if [ -n "$bench" ]; then
    [ -n "$python" ] || echo "| PyTorch | skipped: none that sees the GPU | 0 |" >>"$work/checks"
    for shape in ${shapes:-v1}; do
        measure "$shape"
    done
fi
write_record >"$work/record"
cat "$work/record"
if [ -n "$bench" ]; then
    { echo && cat "$work/record"; } >>"$record"
fi
echo "$failed checks failed, $(seconds_so_far) s" >&2
[ "$failed" -eq 0 ]
