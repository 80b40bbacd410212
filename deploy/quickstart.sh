#!/bin/sh
# Builds cogwheel, starts it with the demo model, asks it about the sample pictures, and stays up.
set -eu

usage()
{
    cat <<'END'
Usage: sh deploy/quickstart.sh [--once [--as-reference]] [--port N] [-- OPTION...]

Installs missing Debian packages, builds build/cogwheel, starts it with the demo model on
127.0.0.1, asks about every sample picture, prints the answers, and stays up. Where there is an
NVIDIA GPU and its toolkit, cogwheel is built for it.

  --once          stop after the answers; fails when fewer than 90 % are right
  --as-reference  90 % of those that the reference implementation gets right with this model: judges
                  the server, not the model
  --port N        instead of 8000
  -- OPTION       goes to `cogwheel serve`
END
}

root=$(cd "$(dirname "$0")/.." && pwd)
port=8000 once='' as_reference=''
while [ $# -gt 0 ]; do
    case $1 in
    --once) once=1 ;;
    --as-reference) as_reference=1 ;;
    --port) port=${2:?--port needs a number} && shift ;;
    --port=*) port=${1#*=} ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"
# shellcheck source=deploy/gpu.sh
. "$root/deploy/gpu.sh"
url=http://127.0.0.1:$port
demo=$root/models/demo
server=
work=$(mktemp -d)

stop_server()
{
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" || true
        server=
    fi
}

trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

build()
{
    install_packages build demo
    if [ ! -f "$root/build/build.ninja" ]; then
        # shellcheck disable=SC2046 # a list of words
        meson setup --buildtype=release $(gpu_options "$(gpu_capability)") "$root/build" "$root" \
            >"$work/build.log" 2>&1 ||
            { cat "$work/build.log" >&2 && return 1; }
    fi
    echo "Building build/cogwheel ..."
    ninja -C "$root/build" cogwheel >"$work/build.log" 2>&1 ||
        { tail -n 40 "$work/build.log" >&2 && return 1; }
}

start_server()
{
    log=$root/build/quickstart.log
    if curl --noproxy '*' -s -o "$work/other" "$url/"; then
        echo "Something else answers on port $port: stop it, or name another with --port." >&2
        return 1
    fi
    "$root/build/cogwheel" serve --listen "127.0.0.1:$port" --drain-delay 0 "$@" >"$log" 2>&1 &
    server=$!
    waited=0
    until curl --noproxy '*' -fs -o "$work/ready" "$url/readyz" 2>/dev/null; do
        if ! kill -0 "$server" 2>/dev/null; then
            server=
            cat "$log" >&2
            return 1
        fi
        waited=$((waited + 1))
        if [ "$waited" -gt 1200 ]; then
            echo "Not ready after two minutes:" >&2
            tail -n 5 "$log" >&2
            return 1
        fi
        sleep 0.1
    done
}

# Asks what $work/case says; prints the answer.
ask()
{
    image=$demo/$(jq -r .image "$work/case")
    base64 <"$image" | tr -d '\n' >"$work/picture"
    case $image in
    *.png) type=png ;;
    *.webp) type=webp ;;
    *.gif) type=gif ;;
    *) type=jpeg ;;
    esac
    jq --arg type "image/$type" --rawfile picture "$work/picture" '{
        messages: (
            [.history // [] | .[] | {role: "user", content: .[0]}, {role: "assistant", content: .[1]}]
            + [{role: "user", content: (
                [{type: "image_url", image_url: {url: "data:\($type);base64,\($picture)"}}]
                + [select(.question != "") | {type: "text", text: .question}])}]),
        chat_template_kwargs: {template_version: (.template // "chat")},
        temperature: 0, max_tokens: 200}' "$work/case" >"$work/request"
    curl --noproxy '*' -sS --max-time 300 -H 'Content-Type: application/json' --data-binary "@$work/request" \
        "$url/v1/chat/completions" >"$work/response" || return 1
    jq -r '.choices[0].message.content // "error: \(.error.message)"' "$work/response"
}

# is_right ANSWER: words must agree; each expected box must be met by one of the answer's with an
# intersection over union of one half
is_right()
{
    jq -e --arg answer "$1" '
        def plain: ascii_downcase | gsub("^\\s+|[\\s.]+$"; "");
        def boxes: [scan("\\d+,\\d+,\\d+,\\d+") | split(",") | map(tonumber)];
        def area: ([.[2] - .[0], 0] | max) * ([.[3] - .[1], 0] | max);
        def iou($b):
            ([([.[0], $b[0]] | max), ([.[1], $b[1]] | max),
              ([.[2], $b[2]] | min), ([.[3], $b[3]] | min)] | area) as $common
            | $common / ([area + ($b | area) - $common, 1] | max);
        if .kind == "box" then
            ($answer | boxes) as $found | (.answer | boxes) as $wanted
            | ($found | length) == ($wanted | length)
              and all($wanted[]; . as $w | any($found[]; iou($w) >= 0.5))
        else ($answer | plain) == (.answer | plain) end' "$work/case" >/dev/null
}

ask_samples()
{
    right=0 total=0 counted=0 last=
    jq -c '.[] | .image as $image | .cases[] | {$image} + .' "$demo/samples.json" >"$work/cases"
    while IFS= read -r case; do
        printf '%s\n' "$case" >"$work/case"
        image=$(jq -r .image "$work/case")
        [ "$image" = "$last" ] || printf '\n%s\n' "$image"
        last=$image
        question=$(jq -r '[(.history // [] | .[][]), .question] | join(" / ")
            | if . == "" then "(the picture alone)" else . end' "$work/case")
        answer=$(ask)
        total=$((total + 1))
        # "correct": false marks what the reference gets wrong as well
        if [ -z "$as_reference" ] || jq -e '.correct != false' "$work/case" >/dev/null; then
            counted=$((counted + 1))
        fi
        if is_right "$answer"; then
            right=$((right + 1))
            printf '  \342\234\223 %s\n      %s\n' "$question" "$answer"
        else
            printf '  \342\234\227 %s\n      %s\n      expected: %s\n' "$question" "$answer" \
                "$(jq -r .answer "$work/case")"
        fi
    done <"$work/cases"
    printf '\n%d of %d right\n' "$right" "$total"
}

build
start_server "$@"
ask_samples
if [ -n "$once" ]; then
    stop_server
    [ "$counted" -gt 0 ] && [ $((right * 10)) -ge $((counted * 9)) ]
    exit
fi
echo "The server is up: $url/v1 for clients. Ctrl-C stops it."
if curl --noproxy '*' -fs -o "$work/page" "$url/"; then
    echo "In a browser: $url/"
fi
wait "$server" || true
server=
