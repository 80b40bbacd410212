# Sourced by scripts: what to build for the GPU of this machine.
# shellcheck shell=sh

# Prints the first GPU's compute capability, such as 9.0; nothing without one.
gpu_capability()
{
    nvidia-smi -i 0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null
}

# gpu_options CAPABILITY: prints the options of meson. Machine code for other GPUs takes minutes.
gpu_options()
{
    case $1 in
    '') echo -Dcuda=disabled ;;
    8.0 | 8.6 | 8.9 | 12.0) echo "-Dcuda=auto -Dgpu_archs=$(echo "$1" | tr -d .)" ;;
    9.0) echo '-Dcuda=auto -Dgpu_archs=90a' ;;
    *) echo '-Dcuda=auto -Dgpu_archs=[]' ;; # runs the PTX
    esac
}
