#!/bin/sh
# Make build/gpu/packages.tar.xz: what gpu_check.sh needs in addition to PyTorch on a machine without a network.
#
#     sh benchmarks/gpu_pack.sh [PYTHON]        PYTHON: of the version of that machine, such as python3.12
#
# PyTorch, of the version of that machine, is installed here only to build Horovod for it. Needs nvcc and g++.
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3.12}
torch=${TORCH_VERSION:-2.11.0}
build=build/gpu
mkdir -p "$build"
[ -x "$build/env/bin/python" ] || "$python" -m venv "$build/env"
"$build/env/bin/pip" install -q "torch==$torch" 'setuptools<81' wheel packaging pyyaml cloudpickle psutil \
	'numpy==1.26.4' safetensors fsspec rich click jinja2
wheel=$("$build/env/bin/python" .ci/build_horovod.py "$build/env/bin/python" | tail -n 1)

site=$build/site
rm -rf "$site"
install="$build/env/bin/pip install -q --no-deps --no-compile --target $site"
# NumPy and pyarrow of Petastorm's time; the machine's are too new for it.
$install --only-binary=:all: numpy==1.26.4 pyarrow==14.0.2 pandas==2.3.3 pydantic==2.14.3 pydantic-core==2.50.4 \
	annotated-types typing-inspection typing-extensions pyzmq dill diskcache psutil cloudpickle pyyaml six \
	pytz python-dateutil tzdata packaging
$install future petastorm==0.13.1 py4j "$wheel"
# Horovod and Petastorm import PySpark; without its jars it is small.
$install pyspark==4.0.5
rm -rf "$site"/pyspark/jars "$site"/pyspark/examples "$site"/pyspark/tests "$site"/pyspark/data \
	"$site"/bin "$site"/share "$site"/examples "$site"/past "$site"/libfuturize "$site"/libpasteurize \
	"$site"/pyarrow/tests "$site"/pyarrow/include "$site"/pyarrow/src "$site"/pandas/tests
find "$site" -name '*.so*' -size +100k -exec strip --strip-unneeded {} + 2>/dev/null || true
tar -cf - -C "$site" . | xz -T0 -6 >"$build/packages.tar.xz"
ls -l "$build/packages.tar.xz"
