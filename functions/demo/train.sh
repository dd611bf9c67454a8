#!/bin/sh
# Train the demo model again, in an environment of its own: torch is no dependency of anything else here.
# On Linux torch's default build brings CUDA, gigabytes of it: set TORCH_INDEX to the address of PyTorch's CPU index.
set -eu
cd "$(dirname "$0")/../.."
environment=.venvs/train
python=$environment/bin/python
test -x "$python" || "${PYTHON:-python3}" -m venv "$environment"
needed=$("$python" -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["train"]))')
echo "$needed" | "$python" -m pip install --quiet --disable-pip-version-check \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement /dev/stdin
exec "$python" -m functions.demo.train "$@"
