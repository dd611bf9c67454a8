"""The process that `llamacpp.py` starts: llama.cpp's own HTTP server, embedded in Python by `xllamacpp`.

It is run as a file and imports nothing of this project: it starts wherever Python finds `xllamacpp`. The API key
comes in the environment (`LLAMACPP_API_KEY`), since everybody on the machine can read a command line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xllamacpp

API_KEY_VARIABLE: Final = "LLAMACPP_API_KEY"
IMPORTED: Final = "llama.cpp loads"
"""What this process says when its modules are loaded and the model comes next."""
CANNOT_LOAD: Final = 3
"""Exit code: llama.cpp refused the model, or the address."""
LOG_SECONDS: Final = 0.5
"""For llama.cpp to write why: its log has a thread of its own, which nobody can wait for."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What llama.cpp's server is told. `context` is per request, in tokens; `cache_mib` the prompt cache in memory.

    `embedding`: 1 for a server of embeddings and nothing else, made by `pooling` (`mean`, `cls`, `last`; empty: what
    the file says).
    """

    model: str
    alias: str
    host: str
    port: int
    context: int
    parallel: int
    threads: int
    batch: int
    cache_mib: int
    embedding: int = 0
    pooling: str = ""

    def arguments(self) -> list[str]:
        """The command line that `parse` reads back."""
        return [part for name, value in asdict(self).items() for part in (f"--{name.replace('_', '-')}", str(value))]


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="llamacpp_server.py", description=__doc__)
    for option in fields(Options):
        parser.add_argument(
            f"--{option.name.replace('_', '-')}", type=int if option.type == "int" else str, required=True
        )
    return Options(**vars(parser.parse_args(arguments)))


def parameters(options: Options, *, api_key: str | None) -> xllamacpp.CommonParams:
    """llama.cpp's parameters for these options. Its web page and CORS are off: the web tier's business."""
    import xllamacpp

    chosen = xllamacpp.CommonParams()
    chosen.model.path = options.model
    chosen.model_alias = {options.alias}
    chosen.hostnames = [options.host]
    chosen.port = options.port
    chosen.api_keys = [api_key] if api_key else []
    # One pool that every request shares, where none may take more than its own part: sized so that it never runs out.
    chosen.n_parallel = options.parallel
    chosen.kv_unified = True
    chosen.kv_unified_per_slot = options.context
    chosen.n_ctx = options.context * options.parallel
    # A caller that left is noticed between two batches: small ones bound how long a prefill goes on for nobody.
    chosen.n_batch = chosen.n_ubatch = options.batch
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = options.threads
    chosen.cache_ram_mib = options.cache_mib
    if options.embedding:
        chosen.embedding = True
        # A text is embedded in one batch; and one that the slots do not divide evenly fails an assertion of llama.cpp.
        chosen.n_batch = chosen.n_ubatch = -(-options.context // options.parallel) * options.parallel
        if options.pooling:
            chosen.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{options.pooling.upper()}")
    # As everywhere else: an assistant's message that comes last is continued only where that is asked for.
    chosen.prefill_assistant = False
    chosen.ui = False
    chosen.endpoint_metrics = True
    chosen.endpoint_slots = True
    chosen.sse_ping_interval = -1
    chosen.cors_origins = ""
    chosen.fit_params = False
    chosen.verbosity = int(os.environ.get("LLAMACPP_VERBOSITY", "1"))
    return chosen


def main() -> None:
    options = parse()
    # llama.cpp's threads do not let Python handle a signal: the default action ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import xllamacpp

    print(f"{IMPORTED} {options.model}", file=sys.stderr, flush=True)
    try:
        server = xllamacpp.Server(parameters(options, api_key=os.environ.pop(API_KEY_VARIABLE, None)))
    except RuntimeError as error:
        print(
            f"llama.cpp cannot serve {options.model} at {options.host}:{options.port}: {error}",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(LOG_SECONDS)
        os._exit(CANNOT_LOAD)
    signal.pause()
    del server


if __name__ == "__main__":
    main()
