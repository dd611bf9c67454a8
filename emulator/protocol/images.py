"""Images: described layer by layer, and built as far as they need a Python environment of their own."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.ids import derived_id
from emulator.images.dockerfile import Layers, apply_commands
from emulator.protocol.dispatch import not_found
from emulator.state import IMAGE_BUILDER_VERSION, ImageRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from emulator.clock import Clock
    from emulator.images.builds import Build, ImageBuilder
    from emulator.images.commands import Install, Shell
    from emulator.images.steps import BuildSteps
    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.content import ContentStore

_STREAMED = 55.0
"""Seconds of one stream, unless the client says: it asks again."""


class ImageHandlers:
    def __init__(
        self,
        state: State,
        clock: Clock,
        content: ContentStore,
        builder: ImageBuilder,
        steps: BuildSteps,
        *,
        run_commands: bool,
    ) -> None:
        """`run_commands`: whether shell commands of images are run. Else they are said."""
        self._state = state
        self._clock = clock
        self._content = content
        self._builder = builder
        self._steps = steps
        self._run_commands = run_commands
        self._shells: dict[str, tuple[Shell, ...]] = {}
        """Of images that are being built: what their last layer runs."""

    async def ImageGetOrCreate(
        self, request: api_pb2.ImageGetOrCreateRequest, _: Caller
    ) -> api_pb2.ImageGetOrCreateResponse:
        image = request.image
        _refuse_poetry(image)
        image_id = self._id(image)
        force = request.force_build or request.ignore_cache
        record = self._state.images.get(image_id)
        if record is None or record.unfinished or force:
            record = self._state.images[image_id] = self._describe(image_id, request)
        # What lower layers install was forced with them.
        force = force and record.installs != self._below(image)
        if not await self._builder.pending(record, force=force):
            return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=_built(), metadata=self._metadata(record))
        self._builder.begin(
            record,
            steps=image.dockerfile_commands or [f"RUN {_name_of_function(self._state, request)}()"],
            last=self._last_of(record, request),
            secrets=self._secrets(image),
            force=force,
        )
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id)

    def _id(self, image: api_pb2.Image) -> str:
        """The same for what is the same: the context counts by its content, which its mount's id is derived from.

        So do Secrets without a name, which are new with each deploy; of others the name counts.
        """
        secrets = [self._state.secrets[one] for one in image.secret_ids if one in self._state.secrets]
        of_secrets = [secret.name or repr(sorted(secret.values.items())) for secret in secrets]
        content = api_pb2.Image()
        content.CopyFrom(image)
        del content.secret_ids[:]
        ways = ["its commands are run"] if self._run_commands else []
        parts = [part.encode() for part in (*of_secrets, *ways)]
        return derived_id("im", content.SerializeToString(deterministic=True), *parts)

    def _below(self, image: api_pb2.Image) -> tuple[Install, ...]:
        """What the layers below install."""
        bases = [self._state.images[base.image_id] for base in image.base_images if base.image_id in self._state.images]
        return tuple(install for base in bases for install in base.installs)

    def _describe(self, image_id: str, request: api_pb2.ImageGetOrCreateRequest) -> ImageRecord:
        image, layers = request.image, Layers()
        for base in image.base_images:
            if (record := self._state.images.get(base.image_id)) is not None:
                layers.environment.update(record.environment)
                layers.workdir = record.workdir
                layers.copied += record.copied
                layers.installs += record.installs
                layers.python = record.python or layers.python
                layers.entrypoint, layers.command = record.entrypoint, record.command
        context = self._state.mounts.get(image.context_mount_id)
        files = [*(context.files if context else ()), *self._context_files(image)]
        apply_commands(layers, image.dockerfile_commands, files, build_arguments=image.build_args)
        layers.python = (context.python if context else "") or layers.python
        is_clients = request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL
        ours = [shell for shell in layers.shells if self._run_commands and not is_clients and not shell.is_system]
        if ours:
            self._shells[image_id] = tuple(ours)
        if not is_clients:  # what those do is what an image here is without it
            self._warn(layers, ours)
        return ImageRecord(
            image_id,
            layers.environment,
            layers.workdir,
            tuple(layers.copied),
            layers.python,
            tuple(layers.installs),
            unfinished=image.HasField("build_function") or bool(ours),
            entrypoint=layers.entrypoint,
            command=layers.command,
        )

    def _last_of(
        self, record: ImageRecord, request: api_pb2.ImageGetOrCreateRequest
    ) -> Callable[[Build], Awaitable[None]] | None:
        """What runs the function or the commands of a layer, and keeps what they have changed. None: there are none."""
        if not record.unfinished:
            return None
        shells, layer = self._shells.pop(record.image_id, ()), request.image

        async def run(build: Build) -> None:
            image = record
            for shell in shells:
                build.write(f"$ {shell.command}\n")
                files = await self._steps.run_shell(image, layer, shell, self._secrets(layer), build.write)
                image = dataclasses.replace(image, copied=(*image.copied, *files))
            if layer.HasField("build_function"):
                given = layer.build_function.input
                files = await self._steps.run_function(image, request.build_function_id, given, build.write)
                image = dataclasses.replace(image, copied=(*image.copied, *files))
            self._state.images[record.image_id] = dataclasses.replace(image, unfinished=False)
            build.write(f"{len(image.copied) - len(record.copied)} files were changed\n")

        return run

    def _context_files(self, image: api_pb2.Image) -> list[api_pb2.MountFile]:
        """Files that came with the request itself."""
        files = []
        for file in image.context_files:
            sha256 = hashlib.sha256(file.data).hexdigest()
            self._content.add(sha256, file.data)
            files.append(api_pb2.MountFile(filename=file.filename, sha256_hex=sha256))
        return files

    def _warn(self, layers: Layers, run: list[Shell]) -> None:
        for command in layers.not_honoured:
            if command.startswith("FROM "):
                what = f"{command[5:]} is not pulled: containers of it have this machine's files and Python"
            else:
                what = f"not honoured in images: {command[:120]}"
            self._builder.say_once(what)
        for shell in layers.shells:
            if shell in run:
                continue
            self._builder.say_once(shell.why_not_run(wanted=self._run_commands))

    def _secrets(self, image: api_pb2.Image) -> dict[str, str]:
        values: dict[str, str] = {}
        for secret_id in image.secret_ids:
            if (secret := self._state.secrets.get(secret_id)) is not None:
                values.update(secret.values)
        return values

    async def ImageFromId(self, request: api_pb2.ImageFromIdRequest, _: Caller) -> api_pb2.ImageFromIdResponse:
        record = self._found(request.image_id)
        return api_pb2.ImageFromIdResponse(image_id=request.image_id, metadata=self._metadata(record))

    async def ImageJoinStreaming(
        self, request: api_pb2.ImageJoinStreamingRequest, _: Caller
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        record = self._found(request.image_id)
        build = self._builder.build_of(request.image_id)
        if build is None:
            yield api_pb2.ImageJoinStreamingResponse(result=_built(), eof=True, metadata=self._metadata(record))
            return
        sent = int(request.last_entry_id.partition("-")[0] or 0)
        deadline = self._clock.outside.monotonic() + (request.timeout or _STREAMED)
        while not build.done or sent < len(build.pieces):
            if sent < len(build.pieces):
                text, sent = "".join(build.pieces[sent:]), len(build.pieces)
                yield api_pb2.ImageJoinStreamingResponse(task_logs=[self._log(text)], entry_id=f"{sent}-0")
                continue
            try:
                async with self._clock.outside.timeout(deadline - self._clock.outside.monotonic()):
                    await build.changed.wait()
            except TimeoutError:
                return
        yield api_pb2.ImageJoinStreamingResponse(
            result=_result(build), entry_id=f"{sent}-0", eof=True, metadata=self._metadata(record)
        )

    def _log(self, text: str) -> api_pb2.TaskLogs:
        return api_pb2.TaskLogs(data=text, file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT, timestamp=self._clock.time())

    def _metadata(self, image: ImageRecord) -> api_pb2.ImageMetadata:
        return api_pb2.ImageMetadata(
            python_version_info=f"Python {self._builder.python_version(image)}",
            image_builder_version=IMAGE_BUILDER_VERSION,
            workdir=image.workdir,
        )

    def _found(self, image_id: str) -> ImageRecord:
        record = self._state.images.get(image_id)
        if record is None:
            raise not_found(f"No Image with ID {image_id}")
        return record


def _name_of_function(state: State, request: api_pb2.ImageGetOrCreateRequest) -> str:
    record = state.functions.get(request.build_function_id)
    return record.tag if record is not None else "function"


def _refuse_poetry(image: api_pb2.Image) -> None:
    if any("poetry install" in command for command in image.dockerfile_commands):
        raise GRPCError(
            Status.UNIMPLEMENTED,
            "The emulator has no Image.poetry_install_from_file(): Image.uv_sync() and "
            "Image.pip_install_from_pyproject() are there",
        )


def _result(build: Build) -> api_pb2.GenericResult:
    if not build.failed:
        return _built()
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exception=build.why)


def _built() -> api_pb2.GenericResult:
    return api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
