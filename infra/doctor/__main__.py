"""`python -m infra.doctor`: one line for each check, and what to do where something is wrong.

It changes nothing and wakes no engine. Exit status: 0, 1 where a check failed, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from infra.configuration import ConfigurationError, load_settings
from infra.doctor.examination import examine
from infra.doctor.findings import FORMS, Case, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.doctor", description="Say what is wrong, and what to do.")
    parser.add_argument(
        "--for", dest="form", choices=FORMS,
        help="what the service is to be run as: what that lacks fails, and nothing else is looked at. Unless given, "
             "what only a deploy to Modal lacks is a warning",
    )  # fmt: skip
    parser.add_argument("--url", help="of a running service to ask as well, as https://you--llm-web.modal.run")
    parser.add_argument("--json", action="store_true", help="JSON instead of lines")
    parser.add_argument("--timeout", type=float, default=SECONDS, metavar="S", help="seconds for all checks (15)")
    options = parser.parse_args(arguments)
    if options.timeout <= 0:
        parser.error("--timeout: expected a number above 0")
    if options.url and not options.url.startswith(("http://", "https://")):
        parser.error("--url: expected an address that begins with https:// or http://")
    found = list[Finding]()
    for finding in _findings(options):
        found.append(finding)
        if not options.json:
            _tell(finding)
    failed = any(finding.level == "FAIL" for finding in found)
    if options.json:
        print(json.dumps({"ok": not failed, "checks": [vars(finding) for finding in found]}, indent=2))
    sys.stdout.flush()
    return 1 if failed else 0


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        yield Finding("configuration", "FAIL", str(error), "correct it (config.example.toml has every key); "
                                                           "nothing else was looked at")  # fmt: skip
        return
    models = ", ".join(model.id for model in settings.models.available_models)
    yield Finding("configuration", "OK", f"read; models: {models}")
    case = Case(settings, dict(os.environ), form=options.form, url=options.url)
    yield from examine(case, seconds=options.timeout)


def _tell(finding: Finding) -> None:
    do = f" → {finding.do}" if finding.do else ""
    print(f"{finding.level:4} {finding.check:16} {finding.says}{do}", flush=True)


if __name__ == "__main__":
    # Not sys.exit: a check that is still waiting for the network must not hold up the end.
    status = main()
    sys.stderr.flush()
    os._exit(status)
