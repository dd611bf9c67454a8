"""AWS credentials without a secret: a container shows the identity token that Modal gives it, and STS lends it a role.

Modal puts the token, a JWT, into the environment of every function's container (https://modal.com/docs/guide/oidc-integration:
issuer https://oidc.modal.com, audience oidc.modal.com; in its example it is good for two days), anew after a memory
snapshot is restored. So it is read when it is needed, and never written anywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import boto3

IDENTITY_TOKEN = "MODAL_IDENTITY_TOKEN"  # noqa: S105 - a variable's name
CONTAINER = "MODAL_TASK_ID"
"""By which AWS's records (CloudTrail) name who used the role."""


def aws_session(*, region: str | None, role_arn: str | None) -> boto3.Session:
    """boto3's session. Where Modal gives an identity token, its credentials are those of the role, renewed before they
    end (after an hour, unless the role says otherwise); elsewhere, and with no role, they are boto3's to find."""
    import boto3

    if role_arn is None:
        return boto3.Session(region_name=region)
    from botocore.session import get_session

    session = get_session()
    if region is not None:
        session.set_config_variable("region", region)  # STS is asked there as well
    chain = session.get_component("credential_provider")
    chain.insert_before(chain.providers[0].METHOD, ModalIdentity(session.create_client, role_arn))
    return boto3.Session(botocore_session=session)


class ModalIdentity:
    """One of botocore's providers of credentials."""

    METHOD = "modal-identity"
    CANONICAL_NAME = None

    def __init__(self, create_client: Any, role_arn: str) -> None:
        self._create_client = create_client
        self._role_arn = role_arn

    def load(self) -> Any:
        """None: there is no token here, and the next provider is asked."""
        from botocore.credentials import AssumeRoleWithWebIdentityCredentialFetcher, DeferredRefreshableCredentials

        if not os.environ.get(IDENTITY_TOKEN):
            return None
        named = {"RoleSessionName": os.environ[CONTAINER]} if os.environ.get(CONTAINER) else {}
        fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
            self._create_client, lambda: os.environ[IDENTITY_TOKEN], self._role_arn, extra_args=named
        )
        return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method=self.METHOD)
