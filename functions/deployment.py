"""What app.py needs to know before it declares anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import modal

from infra.configuration import ConfigurationError, load_settings
from infra.model_files import refuse_missing_files, refuse_unfit_files
from infra.refusals import (
    refuse_impossible_snapshots,
    refuse_unprotected_deploy,
    refuse_without_credentials,
    refuse_without_image,
)
from infra.revisions import advice, unpinned

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
            refuse_unprotected_deploy(settings)
            refuse_without_credentials(settings)
            refuse_impossible_snapshots(settings)
            refuse_without_image(settings)
            refuse_missing_files(settings)
            refuse_unfit_files(settings)
            _advise(settings)
    except ConfigurationError as error:
        sys.exit(str(error))
    return settings


def _advise(settings: Settings) -> None:
    """Say on stderr what is no mistake, and better otherwise, in a deploy to Modal."""
    models, target = settings.models, settings.deploy.target
    for model in models.available_models if target == "modal" else ():
        if keys := unpinned(model, models, target=target):
            print(
                f"model {model.id!r}: {advice(model, keys)} (`modal run app.py::prefetch` says which)", file=sys.stderr
            )
