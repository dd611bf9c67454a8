"""BlobCreate, BlobGet: addresses for what does not fit into a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.protocol.dispatch import Caller
    from emulator.storage.content import BlobStore


class BlobHandlers:
    def __init__(self, blobs: BlobStore, url: Callable[[str], str]) -> None:
        self._blobs = blobs
        self._url = url

    async def BlobCreate(self, _request: api_pb2.BlobCreateRequest, _: Caller) -> api_pb2.BlobCreateResponse:
        blob_id = self._blobs.new()
        url = self._url(blob_id)
        return api_pb2.BlobCreateResponse(
            blob_id=blob_id, blob_ids=[blob_id], upload_urls=api_pb2.UploadUrlList(items=[url])
        )

    async def BlobGet(self, request: api_pb2.BlobGetRequest, _: Caller) -> api_pb2.BlobGetResponse:
        if not self._blobs.has(request.blob_id):
            raise not_found(f"No blob with ID {request.blob_id}")
        return api_pb2.BlobGetResponse(download_url=self._url(request.blob_id))
