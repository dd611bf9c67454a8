#!/bin/sh
# Compiles the locks of the clients' environments: pinned, hashed, for every platform, naming no host.
set -eu
cd "$(dirname "$0")"
for wanted in *.in; do
    "${UV:-../../../.venv/bin/uv}" pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$wanted" --output-file "${wanted%.in}.txt"
done
