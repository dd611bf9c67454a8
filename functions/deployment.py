"""What app.py needs to know before it declares anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import modal

from functions.model_files import refuse_missing_files
from infra.configuration import ConfigurationError, load_settings

if TYPE_CHECKING:
    from infra.settings import Settings


def settings_for_deploy() -> Settings:
    """The settings, where the app is deployed and in its containers.

    A wrong configuration, or one that would put an unprotected endpoint on the public internet, ends the process with
    one line on stderr.
    """
    try:
        settings = load_settings()
        if modal.is_local():
            refuse_unprotected(settings)
            refuse_without_credentials(settings)
            refuse_missing_files(settings)
    except ConfigurationError as error:
        sys.exit(str(error))
    return settings


def refuse_unprotected(settings: Settings) -> None:
    """Raise ConfigurationError for a public deploy that anybody could use."""
    security = settings.security
    if settings.deploy.target == "modal" and not security.enable_auth and not security.allow_public:
        raise ConfigurationError(
            "security.enable_auth: is off, so anybody could use (and make you pay for) the deployed endpoint; "
            "expected it on, and API keys (config.example.toml), or security.allow_public = true to allow just that"
        )


def refuse_without_credentials(settings: Settings) -> None:
    """Raise ConfigurationError for a deploy to Modal whose web containers could not reach DynamoDB."""
    state = settings.state
    if settings.deploy.target != "modal" or state.kind != "aws" or state.secret:
        return
    if not state.role_arn:
        raise ConfigurationError(
            "state.role_arn: names no role, and state.secret no Modal Secret with AWS credentials, so nothing could be "
            'kept in DynamoDB; expected one of them, or state.kind = "memory" to keep sessions in the web containers'
        )
    if not state.region:
        raise ConfigurationError(
            "state.region: is not set, and with a role nothing else says where the table is; expected AWS's name of a "
            "region (eu-central-1)"
        )
