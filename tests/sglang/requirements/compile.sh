#!/bin/sh
# Compiles the locks of SGLang's environment: pinned, hashed, naming no host. torch.txt is written by hand.
set -eu
cd "$(dirname "$0")"
compile() {
    "${UV:-../../../.venv/bin/uv}" pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}
compile packages.in --override without.in --no-emit-package torch --no-emit-package triton --output-file packages.txt
compile sglang.in --no-deps --output-file sglang.txt
