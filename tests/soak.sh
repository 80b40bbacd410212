#!/bin/sh
# Everything at once, for an hour: every answer compared with its solo answer, nothing left over.
set -eu

usage()
{
    cat <<'END'
Usage: sh tests/soak.sh [--minutes N] [--clients N] [--seed N] [--cogwheel PROGRAM] [--model DIR]
                        [-- OPTION OF cogwheel serve...]

Starts the server on the demo model with small caches and a short queue, and asks from 48 clients:
pictures new and known in four formats, whole answers and streams, two answers to a request, seeds,
salts, priorities, keys that are reloaded; slow senders and readers, clients that leave at every
stage, bad bodies, picture bombs; helper processes that are stopped and killed. Fails unless every
answer is the one that its request gets alone, no request is lost, and memory, descriptors and
what the server counts are as before.

Default: 60 minutes, build/cogwheel (built when it is missing). A sanitizer's build takes its own
memory, so there memory is only reported.
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
minutes=60 clients=48 seed=1 cogwheel='' model=$root/models/demo
while [ $# -gt 0 ]; do
    case $1 in
    --minutes) minutes=$2 ;;
    --clients) clients=$2 ;;
    --seed) seed=$2 ;;
    --cogwheel) cogwheel=$2 ;;
    --model) model=$2 ;;
    --help | -h) usage && exit 0 ;;
    --) break ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift 2
done

if [ -z "$cogwheel" ]; then
    cogwheel=$root/build/cogwheel
    # shellcheck source=deploy/packages.sh
    . "$root/deploy/packages.sh"
    install_packages build
    [ -f "$root/build/build.ninja" ] || meson setup --buildtype=release "$root/build" "$root" >/dev/null
    ninja -C "$root/build" cogwheel >/dev/null
fi

# OPTION... behind -- as --option=OPTION...
[ $# -eq 0 ] || shift
n=$#
while [ "$n" -gt 0 ]; do
    set -- "$@" "--option=$1"
    shift
    n=$((n - 1))
done

echo "# $(date -u '+%Y-%m-%d %H:%M') UTC, $("$cogwheel" --version), $(nproc) processors, $minutes minutes"
exec python3 "$root/tests/soak/soak.py" "$cogwheel" "$model" --seconds "$((minutes * 60))" \
    --clients "$clients" --seed "$seed" --scenes 300 --files 120 "$@"
