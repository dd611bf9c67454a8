"""The role that the service's containers take on Modal, as CloudFormation: who may take it, and what it may do. Pure.

AWS matches a token's `sub` alone, not Modal's further claims: it names workspace, environment, app, function and
container, in this order (https://modal.com/docs/guide/oidc-integration).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

ISSUER = "oidc.modal.com"
"""Modal's, and its tokens' audience."""
_WORKSPACE = re.compile(r"ac-[A-Za-z0-9]+")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Trust:
    """Containers of one app in one environment of one workspace. Raises ValueError for what could be a pattern."""

    workspace: str
    """Modal's id of it: `ac-…`."""
    environment: str
    app: str

    def __post_init__(self) -> None:
        if not _WORKSPACE.fullmatch(self.workspace):
            raise ValueError(f"{self.workspace!r} is no workspace's id, which begins with 'ac-'")
        if not _ENVIRONMENT.fullmatch(self.environment):
            raise ValueError(f"{self.environment!r} is no environment's name")

    @property
    def subject(self) -> str:
        return f"modal:workspace_id:{self.workspace}:environment_name:{self.environment}:app_name:{self.app}:*"


def resources(trust: Trust, *, policy: dict[str, Any], provider_arn: str | None) -> dict[str, Any]:
    """`provider_arn`: of the account's OpenID Connect provider for Modal, of which there can be but one; None: the
    template makes it."""
    made = {
        "IdentityProvider": {
            "Type": "AWS::IAM::OIDCProvider",
            "Properties": {"Url": f"https://{ISSUER}", "ClientIdList": [ISSUER]},
        }
    }
    who = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider_arn or {"Ref": "IdentityProvider"}},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {f"{ISSUER}:aud": ISSUER},
                    "StringLike": {f"{ISSUER}:sub": trust.subject},
                },
            }
        ],
    }
    role = {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "Description": f"State of the Modal app {trust.app}",
            "AssumeRolePolicyDocument": who,
            "Policies": [{"PolicyName": "state", "PolicyDocument": policy}],
        },
    }
    return {**({} if provider_arn else made), "Role": role}
