"""The settings of what callers upload and have done without waiting for it: the sections `files` and `batches`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.section import Section

MIB = 1024 * 1024


class Files(Section):
    """`/v1/files`."""

    max_file_bytes: Annotated[int, Field(ge=1)] = 512 * MIB
    """Of one file; above it: 413."""
    max_total_bytes: Annotated[int, Field(ge=1)] = 2048 * MIB
    """Of all files of one API key (without keys: everybody's together); above it: 413."""
    upload_seconds: Annotated[int, Field(ge=60, le=86400)] = 3600
    """How long one upload may take."""


class Batches(Section):
    """`/v1/batches`."""

    max_lines: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Requests in one input file."""
    max_input_bytes: Annotated[int, Field(ge=1)] = 200 * MIB
    """Of one input file."""
    max_unfinished: Annotated[int, Field(ge=1)] = 20
    """Batches that one API key (without keys: everybody together) may have under way."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Lines of one batch that are asked at once; as many as the model's engines take unless set."""
    line_seconds: Annotated[float, Field(gt=0)] = 7200.0
    """How long one line is asked again while engines boot, are full or go away; then it has failed."""
    max_containers: Annotated[int, Field(ge=1)] = 4
    """Batches that are worked on at once; others wait. On Modal: each has a container of its own."""
    timeout: Annotated[int, Field(ge=60, le=86400)] = 86400
    """Seconds that one container may work on a batch; the next one goes on where it was."""
