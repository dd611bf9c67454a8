"""Makes what a deploy needs, the same way on Modal and on the emulator: `python -m infra.setup`.

In AWS the table and the bucket of `infra.blueprint` (unless `state.kind` is "memory"), as far as they are missing:
`--dry-run` only says what is, `--state-only` makes nothing else (for a service without Modal), `--cloudformation` and
`--policy` print them as a template and what containers must be allowed, for those who make them another way. With
`--workspace ac-…` the template has a role too, which the containers of the app in that workspace of Modal take by their
identity tokens (`state.role_arn`), and nobody else.

On Modal two Secrets, made together because they share the engines' key:

- `<app>-web`, for the web endpoint: a proxy token (without one, the engines' Servers answer 401) and the key;
- `<app>-engine`, for the engines: the key, and the Hugging Face token when one is configured.

Running it again changes nothing but the Hugging Face token; `--rotate` makes new credentials. Deploy afterwards; what
runs until then goes on with the old proxy token, which `modal workspace proxy-tokens` lists under the same name.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from typing import TYPE_CHECKING

import modal

from infra import blueprint
from infra.aws import Clients, StateUnavailable
from infra.configuration import ConfigurationError, load_settings
from infra.provision import Provision, ProvisionError
from infra.secrets import ENGINE_API_KEY, HF_TOKEN, PROXY_TOKEN_ID, PROXY_TOKEN_SECRET, SecretNames
from infra.trust import Trust

if TYPE_CHECKING:
    from infra.settings import Settings


def make_secrets(names: SecretNames, *, hf_token: str | None, rotate: bool) -> bool:
    """Make the Secrets that are missing (all of them anew with `rotate`). Whether anything was made."""
    present = {secret.name for secret in modal.Secret.objects.list()}
    if not rotate and {names.web, names.engine} <= present:
        if hf_token:
            modal.Secret.from_name(names.engine).update({HF_TOKEN: hf_token})
        return False
    token = modal.Workspace.from_context().proxy_tokens.create(name=names.web)
    key = f"ek-{secrets.token_urlsafe(32)}"
    contents = {
        names.web: {PROXY_TOKEN_ID: token.token_id, PROXY_TOKEN_SECRET: token.token_secret, ENGINE_API_KEY: key},
        names.engine: {ENGINE_API_KEY: key} | ({HF_TOKEN: hf_token} if hf_token else {}),
    }
    for name, values in contents.items():
        if name in present:
            modal.Secret.from_name(name).update(values)
        else:
            modal.Secret.objects.create(name, values)
    return True


def make_state(settings: Settings, *, dry_run: bool) -> None:
    """Make the table and the bucket, telling each step. Raises StateUnavailable, ProvisionError."""
    where = Provision(
        Clients(region_name=settings.state.region), table_name=settings.table_name, bucket_name=settings.bucket_name,
        archive_days=settings.state.archive_days,
    )  # fmt: skip
    done = False
    for step in where.steps():
        done = True
        if not dry_run:
            step.do()
        print(f"setup: {'would make' if dry_run else 'made'} {step.what}")
    if settings.security.enable_auth and not any(key.enabled for key in settings.security.api_keys):
        print("setup: the configuration has no API key; `python -m infra.admin keys create NAME --scope admin` makes "
              "one in the table")  # fmt: skip
    if not done:
        print(f"setup: table {settings.table_name} and bucket {settings.bucket_name} were there already")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.setup", description="Make what a deploy needs.")
    parser.add_argument("--rotate", action="store_true", help="make new credentials in place of those that are there")
    parser.add_argument("--state-only", action="store_true", help="make table and bucket, and ask nothing of Modal")
    parser.add_argument("--dry-run", action="store_true", help="say what would be made in AWS, and make nothing")
    parser.add_argument(
        "--workspace", metavar="ac-…", help="with --cloudformation: a role too, for this workspace's app"
    )
    parser.add_argument("--environment", default="main", help="of that workspace, in which the app is deployed (main)")
    parser.add_argument("--oidc-provider", metavar="ARN", help="of Modal's, where the AWS account has it already")
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--cloudformation", action="store_true", help="print table and bucket as a template (JSON)")
    printed.add_argument("--policy", action="store_true", help="print the IAM policy that containers need (JSON)")
    options = parser.parse_args(arguments)
    if options.workspace and not options.cloudformation:
        parser.error("--workspace goes with --cloudformation")
    if options.state_only and options.rotate:
        parser.error("--rotate is about Modal's Secrets, and --state-only makes none")
    try:
        settings = load_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.deploy.target == "local" and settings.server.host not in ("127.0.0.1", "localhost"):
        print(f"setup: server.host: {settings.server.host!r}, but the emulator listens on 127.0.0.1 only; "
              "expected the key to be absent, or `make serve`", file=sys.stderr)  # fmt: skip
        return 2
    where = {"table_name": settings.table_name, "bucket_name": settings.bucket_name}
    if options.policy:
        print(json.dumps(blueprint.policy(**where), indent=2))
        return 0
    if options.cloudformation:
        try:
            app = settings.deploy.app_name
            trust = Trust(options.workspace, options.environment, app) if options.workspace else None
        except ValueError as error:
            parser.error(str(error))
        days, provider = settings.state.archive_days, options.oidc_provider
        template = blueprint.template(**where, archive_days=days, trust=trust, provider_arn=provider)
        print(json.dumps(template, indent=2))
        return 0
    if settings.state.kind == "aws":
        try:
            make_state(settings, dry_run=options.dry_run)
        except (StateUnavailable, ProvisionError) as error:
            print(f'setup: AWS: {error}. (state.kind = "memory" does without it.)', file=sys.stderr)
            return 1
    elif options.state_only:
        print('setup: state.kind is "memory": there is nothing to make')
    if options.dry_run or options.state_only:
        return 0
    names = SecretNames.of(settings.deploy.app_name)
    token = settings.models.hf_token
    try:
        made = make_secrets(names, hf_token=token.get_secret_value() if token else None, rotate=options.rotate)
    except modal.exception.Error as error:
        print(f"setup: Modal refused: {error}", file=sys.stderr)
        return 1
    print(f"setup: Secrets {names.web} and {names.engine} {'made' if made else 'were there already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
