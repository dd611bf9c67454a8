"""moto's own dictionaries of a bucket's objects and uploads, which note the ones that a request has touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.s3.models import MultipartDict
from moto.s3.utils import _VersionedKeyStore

if TYPE_CHECKING:
    from moto.s3.models import FakeMultipart

Place = tuple[str, str]
"""A bucket's name, and an object's or an upload's id in it."""


@dataclass
class Touched:
    """What has been looked at or changed while `recording`: all of it may have been changed."""

    recording: bool = False
    objects: set[Place] = field(default_factory=set)
    uploads: set[Place] = field(default_factory=set)

    def clear(self) -> None:
        self.objects.clear()
        self.uploads.clear()


class ObservedObjects(_VersionedKeyStore):
    """The versions of each object, by its name."""

    def __init__(self, bucket: str, touched: Touched) -> None:
        super().__init__()
        self._bucket = bucket
        self._touched = touched

    def _note(self, name: Any) -> None:
        if self._touched.recording:
            self._touched.objects.add((self._bucket, name))

    def __contains__(self, name: object) -> bool:
        self._note(name)
        return super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, version: Any) -> Any:
        self._note(name)
        return super().__setitem__(name, version)

    def getlist(self, name: str, default: Any = None) -> Any:
        self._note(name)
        return super().getlist(name, default)

    def setlist(self, name: Any, versions: Any) -> Any:
        self._note(name)
        return super().setlist(name, versions)


class ObservedUploads(MultipartDict):
    """Multipart uploads that are not complete, by their id."""

    def __init__(self, bucket: str, touched: Touched) -> None:
        super().__init__()
        self._bucket = bucket
        self._touched = touched

    def _note(self, upload_id: Any) -> None:
        if self._touched.recording:
            self._touched.uploads.add((self._bucket, upload_id))

    def __getitem__(self, upload_id: str) -> FakeMultipart:
        self._note(upload_id)
        return super().__getitem__(upload_id)

    def get(self, upload_id: str, default: Any = None) -> Any:
        self._note(upload_id)
        return super().get(upload_id, default)

    def __setitem__(self, upload_id: str, upload: FakeMultipart) -> None:
        self._note(upload_id)
        super().__setitem__(upload_id, upload)
