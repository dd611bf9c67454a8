"""S3 and DynamoDB of a test's emulator, by boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.emulator import Emulator


class AwsAccess:
    """Clients that reach the emulator's S3 and DynamoDB, and nothing else."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._session: Any = None

    @property
    def endpoint_url(self) -> str:
        """Of S3 and DynamoDB alike."""
        return self._emulator.core.aws.endpoint_url

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which any AWS client in another process reaches them."""
        return self._emulator.core.aws.environment()

    def client(self, service: str, **options: Any) -> Any:
        """`boto3.client("s3")` or `"dynamodb"`; `options` (`config=…`) go to boto3."""
        return self._made().client(service, **{"endpoint_url": self.endpoint_url, **options})

    def resource(self, service: str, **options: Any) -> Any:
        """`boto3.resource("s3")` or `"dynamodb"`; `options` go to boto3."""
        return self._made().resource(service, **{"endpoint_url": self.endpoint_url, **options})

    def reset(self) -> None:
        """Forget every bucket and table, with all that is in them."""
        self._emulator.core.aws.reset()

    def _made(self) -> Any:
        if self._session is None:
            import boto3

            variables = self.environment
            self._session = boto3.Session(
                variables["AWS_ACCESS_KEY_ID"],
                variables["AWS_SECRET_ACCESS_KEY"],
                region_name=variables["AWS_REGION"],
            )
        return self._session
