#!/bin/sh
# Run gpu_check.py on a machine with a GPU and PyTorch but without a network, with the packages of gpu_pack.sh.
#
#     sh benchmarks/gpu_check.sh [options of gpu_check.py]
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m tarfile -e build/gpu/packages.tar.xz "$site"
PYTHONPATH=$site:$PWD PYTHONDONTWRITEBYTECODE=1 "$python" benchmarks/gpu_check.py "$@"
