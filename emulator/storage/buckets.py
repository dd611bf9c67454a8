"""S3's buckets, objects, versions and uploads as records. moto has them in memory; the contents are files."""

from __future__ import annotations

import copy
from typing import IO, TYPE_CHECKING, Any, cast

from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, FakeMultipart, s3_backends

from emulator.storage.moto_shapes import MotoShapes
from emulator.storage.object_files import FileContent
from emulator.storage.observed import ObservedObjects, ObservedUploads, Touched
from emulator.storage.plain import dumped, loaded
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moto.s3.models import S3Backend

    from emulator.storage.object_files import ObjectFiles
    from emulator.storage.store import Store

BUCKETS, OBJECTS, UPLOADS, PARTS = "s3-bucket", "s3-object", "s3-upload", "s3-part"
_OF_BUCKET = {"keys", "multiparts"}
_OF_OBJECT = {"_value_buffer", "lock", "multipart", "disposed"}
_OF_UPLOAD = {"parts"}


class KeptBuckets:
    """One account's S3. Whoever calls holds the lock under which requests write."""

    def __init__(self, store: Store, files: ObjectFiles, account: str, say: Callable[[str], None]) -> None:
        self._store = store
        self._files = files
        self._account = account
        self._say = say
        self._shapes = MotoShapes()
        self.touched = Touched()
        self._buckets: dict[str, bytes] = {}
        self._contents: dict[tuple[str, str], set[str]] = {}
        """Names of the files of each object's or part's record, by its kind and key."""

    @property
    def _backends(self) -> list[S3Backend]:
        return list(s3_backends[self._account].values())

    # Writing

    def write(self) -> None:
        """Put what a request has touched. Raises `OSError`; then it is still touched."""
        for bucket, name in self.touched.objects:
            self._put_object(bucket, name)
        for bucket, upload_id in self.touched.uploads:
            self._put_upload(bucket, upload_id)
        self._put_buckets()

    def _found(self, name: str) -> tuple[S3Backend | None, Any]:
        for backend in self._backends:
            if name in backend.buckets:
                return backend, backend.buckets[name]
        return None, None

    def _put_buckets(self) -> None:
        there = set()
        for backend in self._backends:
            for bucket in list(backend.buckets.values()):
                there.add(bucket.name)
                self._observe(bucket)
                data = dumped([_without(bucket, _OF_BUCKET), _tags(backend, bucket.arn)], self._shapes)
                if self._buckets.get(bucket.name) != data:
                    self._buckets[bucket.name] = data
                    self._store.put(BUCKETS, bucket.name, data)
        for name in self._buckets.keys() - there:
            del self._buckets[name]
            self._store.delete(BUCKETS, name)
            for kind, key in [place for place in self._contents if place[1].startswith(f"{name}/")]:
                self._delete(kind, key)
            self._store.delete_prefix(UPLOADS, f"{name}/")

    def _observe(self, bucket: FakeBucket) -> None:
        if isinstance(bucket.keys, ObservedObjects):
            return
        objects, uploads = bucket.keys, bucket.multiparts
        bucket.keys = ObservedObjects(bucket.name, self.touched)
        bucket.multiparts = ObservedUploads(bucket.name, self.touched)
        for name, versions in objects.iterlists():
            bucket.keys.setlist(name, versions)
        bucket.multiparts.update(uploads)

    def _put_object(self, bucket_name: str, name: str) -> None:
        backend, bucket = self._found(bucket_name)
        versions = bucket.keys.getlist(name, []) if bucket is not None else []
        key = f"{bucket_name}/{name}"
        if backend is None or not versions:
            self._delete(OBJECTS, key)
            return
        files = set[str]()
        content = [self._version(backend, version, files) for version in versions]
        self._put(OBJECTS, key, content, files)

    def _version(self, backend: S3Backend, version: Any, files: set[str]) -> list[object]:
        if isinstance(version, FakeDeleteMarker):
            return [None, _without(version, {"key"}), isinstance(version.key, FakeDeleteMarker)]
        content = self._content(version)
        files.add(content.path.name)
        if version.multipart is not None:
            _lay_out(version, content)
        parts = version.multipart and [
            _without(version.multipart, _OF_UPLOAD),
            [[number, part.contentsize, part.etag.strip('"')] for number, part in version.multipart.parts.items()],
        ]
        return [content.path.name, _without(version, _OF_OBJECT), _tags(backend, version.arn), parts]

    def _content(self, key: Any) -> FileContent:
        """The file of an object's content, made where it has none yet."""
        if not isinstance(key._value_buffer, FileContent):
            with key.lock:
                temporary = cast("IO[bytes]", key._value_buffer)
                key._value_buffer = self._files.add(temporary, key.contentsize)
                temporary.close()
        content: FileContent = key._value_buffer
        return content

    def _put_upload(self, bucket_name: str, upload_id: str) -> None:
        _, bucket = self._found(bucket_name)
        upload = bucket.multiparts.get(upload_id) if bucket is not None else None
        key = f"{bucket_name}/{upload_id}"
        if upload is None:
            self._store.delete(UPLOADS, key)
            for kind, part in [place for place in self._contents if place[1].startswith(f"{key}/")]:
                self._delete(kind, part)
            return
        self._store.put(UPLOADS, key, dumped(_without(upload, _OF_UPLOAD), self._shapes))
        for number, part in upload.parts.items():
            if not isinstance(part._value_buffer, FileContent):
                name = self._content(part).path.name
                self._put(PARTS, f"{key}/{number:05d}", [name, _without(part, _OF_OBJECT)], {name})

    def _put(self, kind: str, key: str, content: object, files: set[str]) -> None:
        self._store.put(kind, key, dumped(content, self._shapes))
        self._files.drop(self._contents.get((kind, key), set()) - files)
        self._contents[kind, key] = files

    def _delete(self, kind: str, key: str) -> None:
        self._store.delete(kind, key)
        self._files.drop(self._contents.pop((kind, key), set()))

    # Reading

    def load(self) -> None:
        """Give moto what is kept. Raises `StateError` for what can not be understood."""
        for name, data, (fields, tags) in self._rows(BUCKETS):
            bucket = FakeBucket(name, self._account, fields["region_name"])  # type: ignore[abstract]
            vars(bucket).update(fields)
            self._observe(bucket)
            backend = s3_backends[self._account][bucket.partition]
            backend.buckets[name] = bucket
            backend.tagger.tag_resource(bucket.arn, tags)
            self._buckets[name] = data
        for key, _, versions in self._rows(OBJECTS):
            self._load_object(*key.partition("/")[::2], versions)
        for key, _, fields in self._rows(UPLOADS):
            bucket_name, _, upload_id = key.partition("/")
            self._bucket(bucket_name).multiparts[upload_id] = _upload(fields)
        for key, _, (file, fields) in self._rows(PARTS):
            bucket_name, upload_id, number = key.split("/")
            part = self._object(file, fields)
            self._bucket(bucket_name).multiparts[upload_id].parts[int(number)] = part
            self._contents[PARTS, key] = {file}
        self._files.sweep({name for names in self._contents.values() for name in names})

    def _rows(self, kind: str) -> Iterator[tuple[str, bytes, Any]]:
        for key, data in self._store.rows(kind):
            try:
                yield key, data, loaded(data, self._shapes)
            except (ValueError, KeyError, TypeError) as error:
                raise StateError(f"the record of {key} ({kind}) can not be read: {error}") from error

    def _bucket(self, name: str) -> FakeBucket:
        _, bucket = self._found(name)
        if bucket is None:
            raise StateError(f"the record of the bucket {name} is missing")
        found: FakeBucket = bucket
        return found

    def _load_object(self, bucket_name: str, name: str, versions: list[Any]) -> None:
        bucket = self._bucket(bucket_name)
        backend = s3_backends[self._account][bucket.partition]
        made: list[FakeKey | FakeDeleteMarker] = []
        files = set[str]()
        for file, fields, *rest in versions:
            if file is None:
                made.append(_marker(name, fields, made, of_marker=rest[0]))
                continue
            version = self._object(file, fields)
            files.add(file)
            tags, parts = rest
            backend.tagger.tag_resource(version.arn, tags)
            if parts:
                version.multipart = _upload(parts[0])
                version.multipart.parts = {number: _part(version, *facts) for number, *facts in parts[1]}
                _lay_out(version, cast("FileContent", version._value_buffer))
            made.append(version)
        bucket.keys.setlist(name, made)
        self._contents[OBJECTS, f"{bucket_name}/{name}"] = files

    def _object(self, file: str, fields: dict[str, Any]) -> FakeKey:
        made = FakeKey(fields["name"], b"", self._account, fields["region_name"])
        made._value_buffer.close()
        vars(made).update(fields)
        content = self._files.content(file, fields["contentsize"])
        if damage := self._files.damage(content):
            self._say(f"S3: the content of {fields['bucket_name']}/{fields['name']} is damaged: {damage}")
        made._value_buffer = content  # type: ignore[assignment]
        return made


def _without(value: object, names: set[str]) -> dict[str, object]:
    return {name: item for name, item in vars(value).items() if name not in names}


def _tags(backend: S3Backend, arn: str) -> list[dict[str, str]]:
    return backend.tagger.list_tags_for_resource(arn)["Tags"]


def _upload(fields: dict[str, Any]) -> FakeMultipart:
    made = cast("FakeMultipart", FakeMultipart.__new__(FakeMultipart))
    vars(made).update(fields, parts={})
    return made


def _marker(name: str, fields: dict[str, Any], before: list[Any], *, of_marker: bool) -> FakeDeleteMarker:
    """moto asks what a marker was put upon: an object, or another marker."""
    fitting = [version for version in before if isinstance(version, FakeDeleteMarker) == of_marker]
    upon = fitting[-1] if fitting else FakeKey(name, b"", "", "us-east-1")
    made = FakeDeleteMarker(cast("FakeKey", upon))
    vars(made).update(fields)
    return made


def _part(whole: FakeKey, size: int, etag: str) -> FakeKey:
    made = FakeKey(whole.name, b"", whole.account_id, whole.region_name, etag=etag)
    made.contentsize = size
    return made


def _lay_out(whole: FakeKey, content: FileContent) -> None:
    """The parts that an object was uploaded in are parts of its own file; copies share no upload."""
    given = whole.multipart
    assert given is not None
    if sum(part.contentsize for part in given.parts.values()) != content.size:
        whole.multipart = None  # some were uploaded in vain: which, moto does not say
        return
    own = copy.copy(given)
    own.parts, offset = {}, 0
    for number in given.partlist:
        part = own.parts[number] = _part(whole, given.parts[number].contentsize, given.parts[number].etag.strip('"'))
        part._value_buffer.close()
        part._value_buffer = content.part(offset, part.contentsize)  # type: ignore[assignment]
        offset += part.contentsize
    whole.multipart = own
