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
    if settings.deploy.target == "modal" and settings.state.kind == "aws" and not settings.state.secret:
        raise ConfigurationError(
            "state.secret: names no Modal Secret with AWS credentials, so sessions could not be kept in DynamoDB; "
            'expected its name, or state.kind = "memory" to keep them in each web container\'s memory'
        )
