"""What can go wrong with files and batches, beside what `web.errors` says of everything."""

from __future__ import annotations

from web.errors import INVALID, LONGEST_ECHO, UNAVAILABLE, ServiceError


class FileNotFound(ServiceError):
    """There is none, it has expired, or it is another key's: the same words for all."""

    status, type, code, param = 404, INVALID, "file_not_found", "file_id"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"No such File object: {file_id[:LONGEST_ECHO]}")


class FileTooLarge(ServiceError):
    status, type, code, param = 413, INVALID, "file_too_large", "file"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit} bytes, which is the most that one may have.")


class StorageFull(ServiceError):
    """The owner's files together would be too large."""

    status, type, code, param = 413, INVALID, "storage_limit_exceeded", "file"

    def __init__(self, limit: int) -> None:
        super().__init__(f"Your files would have more than {limit} bytes together. Delete some, and try again.")


class UploadTooSlow(ServiceError):
    status, type, code = 408, "timeout", "upload_timeout"
    again = False  # it would take as long again

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The file did not come within {seconds:.0f} s.")


class BatchNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "batch_not_found", "batch_id"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"No batch found with id '{batch_id[:LONGEST_ECHO]}'.")


class TooManyBatches(ServiceError):
    status, type, code, again = 429, "requests", "batch_limit_exceeded", False

    def __init__(self, most: int) -> None:
        super().__init__(f"There are {most} unfinished batches already. Wait until one ends, or cancel one.")


class StorageUnavailable(ServiceError):
    """What keeps files and batches cannot be reached, or refuses."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "storage_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__("Files and batches cannot be read or written now. Try again.")
