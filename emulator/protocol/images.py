"""Images: recorded layer by layer and answered as built. What a layer asks for that is not honoured is said once."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.ids import derived_id
from emulator.protocol.dispatch import not_found
from emulator.state import IMAGE_BUILDER_VERSION, ImageRecord
from emulator.storage.dockerfile import Layers, apply_commands, is_install
from emulator.storage.installs import not_installed, packages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from emulator.protocol.dispatch import Caller
    from emulator.state import State


class ImageHandlers:
    def __init__(self, state: State, say: Callable[[str], None]) -> None:
        self._state = state
        self._say = say

    async def ImageGetOrCreate(
        self, request: api_pb2.ImageGetOrCreateRequest, _: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        image = request.image
        if image.HasField("build_function"):
            raise GRPCError(
                Status.UNIMPLEMENTED, "The emulator does not build images: Image.run_function() cannot be honoured"
            )
        # The context counts by its content: its mount's id is derived from that.
        image_id = derived_id("im", image.SerializeToString(deterministic=True))
        if image_id not in self._state.images:
            record = self._state.images[image_id] = self._describe(image_id, image)
            self._warn(record)
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=_built(), metadata=_metadata())

    def _describe(self, image_id: str, image: api_pb2.Image) -> ImageRecord:
        layers = Layers()
        for base in image.base_images:
            if (record := self._state.images.get(base.image_id)) is not None:
                layers.environment.update(record.environment)
                layers.workdir = record.workdir
                layers.copied += record.copied
        context = self._state.mounts.get(image.context_mount_id)
        apply_commands(layers, image.dockerfile_commands, context.files if context else ())
        return ImageRecord(
            image_id, layers.environment, layers.workdir, tuple(layers.copied), tuple(layers.not_honoured)
        )

    def _warn(self, record: ImageRecord) -> None:
        others = [command for command in record.not_honoured if not is_install(command)]
        if others:
            shown = "; ".join(command[:80] for command in others[:3])
            self._say(f"image {record.image_id}: not run, since images are not built here: {shown}")
        if missing := not_installed(name for command in record.not_honoured for name in packages(command)):
            names = " ".join(missing)
            self._say(f"image {record.image_id} wants packages that are not installed here: pip install {names}")

    async def ImageFromId(self, request: api_pb2.ImageFromIdRequest, _: Caller) -> api_pb2.ImageFromIdResponse:
        if request.image_id not in self._state.images:
            raise not_found(f"No Image with ID {request.image_id}")
        return api_pb2.ImageFromIdResponse(image_id=request.image_id, metadata=_metadata())

    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, _: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        if request.image_id not in self._state.images:
            raise not_found(f"No Image with ID {request.image_id}")
        yield api_pb2.ImageJoinStreamingResponse(result=_built(), eof=True, metadata=_metadata())


def _built() -> api_pb2.GenericResult:
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def _metadata() -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(
        python_version_info=f"Python {platform.python_version()}", image_builder_version=IMAGE_BUILDER_VERSION
    )
