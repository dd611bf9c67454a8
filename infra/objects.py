"""The bucket's objects for what is large: read in ranges, copied and removed in numbers, written in parts.

A writer holds one part in memory, whatever the object's size; S3 shows an object once it is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.aws import ObjectMissing, StateUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.aws import Clients

PART_BYTES = 8 * 1024 * 1024
"""Of an upload in parts. S3 takes 10,000 parts, of at least 5 MiB each but the last."""
REMOVED_AT_ONCE = 1000
"""Objects that one call removes: S3's limit."""
_NO_SUCH_RANGE = "InvalidRange"


class Objects:
    """Every method raises StateUnavailable."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._name = name

    async def put(self, key: str, body: bytes) -> None:
        await self.call("put_object", Key=key, Body=body)

    async def read(self, key: str, start: int, length: int) -> bytes:
        """So many bytes from `start` on; fewer at the end, none beyond it. Raises ObjectMissing."""
        try:
            answer = await self.call("get_object", Key=key, Range=f"bytes={start}-{start + length - 1}")
        except StateUnavailable as error:
            if error.code == _NO_SUCH_RANGE:
                return b""
            raise
        body: bytes = answer["Body"]
        return body

    async def copy(self, source: str, target: str) -> None:
        """Within S3. Raises ObjectMissing."""
        await self.call("copy_object", Key=target, CopySource={"Bucket": self._name, "Key": source})

    async def remove(self, keys: Sequence[str]) -> None:
        """Harmless for those that are not there."""
        for begin in range(0, len(keys), REMOVED_AT_ONCE):
            some = keys[begin : begin + REMOVED_AT_ONCE]
            told = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            answer = await self.call("delete_objects", Delete=told)
            if failed := answer.get("Errors"):
                first = failed[0]
                raise StateUnavailable(f"delete_objects: {first.get('Message', '')}", code=first.get("Code", ""))

    def writer(self, key: str) -> ObjectWriter:
        return ObjectWriter(self, key)

    async def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._clients.call("s3", operation, Bucket=self._name, **arguments)


class ObjectWriter:
    """`write` what comes, then `close`; or else `abort`, after which nothing is left."""

    def __init__(self, objects: Objects, key: str) -> None:
        self.size = 0
        self._objects = objects
        self._key = key
        self._unsent = bytearray()
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []

    async def write(self, data: bytes) -> None:
        self._unsent += data
        self.size += len(data)
        while len(self._unsent) > PART_BYTES:
            part = bytes(self._unsent[:PART_BYTES])
            del self._unsent[:PART_BYTES]
            await self._send(part)

    async def close(self) -> None:
        """The object is there, whole, once this returns. A second try, after it has failed, is harmless."""
        if self._upload is None:
            await self._objects.put(self._key, bytes(self._unsent))
            return
        if self._unsent:
            await self._send(bytes(self._unsent))
            self._unsent.clear()
        await self._objects.call(
            "complete_multipart_upload", Key=self._key, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
        )

    async def abort(self) -> None:
        """Harmless when nothing was begun."""
        upload, self._upload = self._upload, None
        self._unsent.clear()
        if upload is not None:
            try:
                await self._objects.call("abort_multipart_upload", Key=self._key, UploadId=upload)
            except ObjectMissing:
                return

    async def _send(self, part: bytes) -> None:
        if self._upload is None:
            answer = await self._objects.call("create_multipart_upload", Key=self._key)
            self._upload = answer["UploadId"]
        number = len(self._parts) + 1
        answer = await self._objects.call(
            "upload_part", Key=self._key, UploadId=self._upload, PartNumber=number, Body=part
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
