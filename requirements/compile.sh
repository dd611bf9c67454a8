#!/bin/sh
# Compiles the locks from pyproject.toml: pinned, hashed, for every platform, naming no host. `make lock` calls it.
#   run.txt            what `make run` needs            dev.txt  all of it and the tests
#   web.txt, cpu.txt   what the service's images install tracing.txt   what traces need beside web.txt
#   uv.txt             what installs the others, quickly
set -eu
cd "$(dirname "$0")/.."
compile() {
    output=$1
    shift
    "${UV:-uv}" pip compile --system-certs --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" --output-file "requirements/$output.txt"
}
compile dev pyproject.toml --group web --group tracing --group cpu --group dev
compile run pyproject.toml --group web --group cpu --constraint requirements/dev.txt
compile web --group web --constraint requirements/dev.txt
compile tracing --group tracing --constraint requirements/dev.txt
compile cpu --group cpu --constraint requirements/dev.txt
compile uv --group setup --constraint requirements/dev.txt
# The gateways that this service is measured beside, each to be installed apart from everything else.
for gateway in smg litellm; do
    compile "../tests/benchmarks/requirements/$gateway" "tests/benchmarks/requirements/$gateway.in"
done
# The oldest client that the emulator is tested with, and the emulator beside it.
compile ../tests/parity/requirements/oldest pyproject.toml tests/parity/requirements/oldest.in
