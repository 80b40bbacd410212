# Sourced by scripts: install_packages GROUP... installs what is missing of the groups in
# deploy/packages.txt. Touches neither network nor privileges when nothing is. Needs $root.
# shellcheck shell=sh disable=SC2154

# Prints the packages of a group that are missing.
missing_packages()
{
    while read -r for_what package program; do
        [ "$for_what" = "$1" ] || continue
        if [ -n "$program" ] && command -v "$program" >/dev/null 2>&1; then
            continue
        fi
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *' ok installed') ;;
        *) echo "$package" ;;
        esac
    done <"$root/deploy/packages.txt"
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "Not root, and there is no sudo. As root, run: $*" >&2
        return 1
    fi
}

install_packages()
{
    missing=
    for group in "$@"; do
        missing="$missing $(missing_packages "$group" | tr '\n' ' ')"
    done
    # shellcheck disable=SC2086 # a list of words
    set -- $missing
    [ $# -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "This is no Debian. Install what corresponds to: $*" >&2
        return 1
    fi
    echo "Installing: $*"
    as_root apt-get -qq update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            "$@" >/dev/null
}
