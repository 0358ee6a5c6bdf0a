"""Where data lie: a path of this machine, or a URL of a storage that fsspec knows.

A place of either kind has the methods of `pathlib.Path`; what differs is kept here and in `stage`.
Credentials come from the environment and the configuration of the storage's library alone, and no
message repeats what that library says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetsim.base.errors import FleetsimError, InputError, found, modules_of, nearest

#: What to install for URLs and schedulers.
EXTRA = "pip install 'fleetsim[cluster]'"
_GCS, _AZURE = "pip install gcsfs", "pip install adlfs"
#: The schemes of URLs that are taken, and what to install for each. fsspec knows many more that are
#: no place for data: archives in files, pages of the web, schedulers, notebook servers.
SCHEMES = {
    "s3": EXTRA,
    "s3a": EXTRA,
    "gs": _GCS,
    "gcs": _GCS,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "file": EXTRA,
    "local": EXTRA,
    "memory": EXTRA,
}
_LISTED = "a URL of s3://, gs://, az://, abfs://, file:// or memory://"
_FORM = "scheme://bucket/prefix"
_FROM = "credentials come from the environment or the configuration of the storage's library"


def place(text: str | Path) -> Path:
    """Return the place that a path or URL names; a URL needs the extra ``cluster``.

    Raises
    ------
    InputError
        Where the URL holds more than a place, or nothing here knows its scheme.
    """
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES:  # of the rest nothing is repeated: it may hold credentials
        raise InputError(
            f"{found(scheme)[1:-1]}://…",
            f"found the scheme {found(scheme)}{nearest(scheme, SCHEMES)}; "
            f"allowed: a path, or {_LISTED}",
        )
    if not rest.strip("/"):
        raise InputError(text, f"names no place; allowed: a path or {_FORM}")
    if "@" in rest.partition("/")[0] or "?" in rest or "#" in rest:  # never repeated
        raise InputError(
            f"{scheme}://…", f"found a URL with @, ? or #; allowed: {_FORM}", next_step=_FROM
        )
    if scheme in ("file", "local"):
        machine, _, path = rest.partition("/")
        if machine not in ("", "localhost"):
            raise InputError(
                text, f"names the machine {found(machine)}; allowed: {scheme}:///path, of this one"
            )
        return Path("/" + path.lstrip("/"))
    try:
        import fsspec
        from upath import UPath
    except ImportError:
        raise InputError(
            text, "URLs need an extra that is not installed", next_step=EXTRA
        ) from None
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        raise InputError(
            text,
            f"the library for {scheme}:// is not installed",
            next_step=SCHEMES[scheme],
        ) from None
    # What others write in the meantime counts, so nothing is remembered of a folder's content.
    with told(text):
        storage: Any = UPath(text, use_listings_cache=False)
        return storage  # type: ignore[no-any-return]  # a Path in all that is used of it


def is_remote(where: Path) -> bool:
    """Return whether a place is no path of this machine."""
    return not isinstance(where, Path)


def sizes(folder: Path) -> dict[str, int]:
    """Return the sizes [bytes] of a folder's files, by name; none where there is no folder."""
    if not is_remote(folder):
        try:
            with os.scandir(folder) as rows:
                return {row.name: row.stat().st_size for row in rows if row.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
    with told(folder):
        storage: Any = folder
        try:
            listed = storage.fs.ls(storage.path, detail=True)
        except FileNotFoundError:
            return {}
        return {
            row["name"].rstrip("/").rpartition("/")[2]: row["size"]
            for row in listed
            if row["type"] == "file"
        }


def require(where: Path) -> None:
    """Look whether a storage answers and has the bucket.

    Raises
    ------
    InputError
        Where it does not, or refuses.
    """
    storage: Any = where
    bucket = storage.path.strip("/").partition("/")[0]
    if storage.protocol not in _BUCKETS:
        return
    shown = f"{storage.protocol}://{bucket}"
    try:
        storage.fs.ls(storage.path, detail=False)  # its answer says more than that to a question
    except FileNotFoundError as error:
        why = reason(error)  # an empty place is none either
        if why == _NO_BUCKET:
            raise InputError(shown, why) from None
    except Exception as error:
        why = reason(error) or f"cannot be used ({type(error).__name__})"
        raise InputError(shown, why) from None


def folders_with(folder: Path, name: str) -> list[Path]:
    """Return the folders in a folder that hold a file of some name, sorted, hidden ones apart."""
    if not is_remote(folder):
        return sorted(path.parent for path in folder.glob(f"[!.]*/{name}"))
    storage: Any = folder
    with told(folder):
        try:
            listed = storage.fs.ls(storage.path, detail=True)
        except FileNotFoundError:
            return []
        paths = [row["name"].rstrip("/") for row in listed if row["type"] == "directory"]
        names = sorted(path.rpartition("/")[2] for path in paths)
        inside = [folder / name for name in names if not name.startswith(".")]
        return [path for path in inside if (path / name).exists()]


def fetch(source: Path, target: Path) -> None:
    """Copy a file, or a folder with everything in it, from a storage to this machine."""
    storage: Any = source
    with told(source):
        storage.fs.get(storage.path, str(target), recursive=True)


@contextmanager
def told(where: object) -> Iterator[None]:
    """Turn what a storage's library raises into one clear error; errors of our own pass.

    Only the kind of an error is told, never its text, which may hold what must stay secret.
    """
    try:
        yield
    except FleetsimError:
        raise
    except Exception as error:
        if where is not None and isinstance(where, Path):
            raise  # the caller knows best what the system says of a path
        why = reason(error)
        if why is None:
            raise
        raise FleetsimError(f"{where}: {why}") from None


def reason(error: BaseException) -> str | None:
    """Return in words what is wrong with a storage; None for an error of another kind.

    Nothing of what the storage or its library says is repeated, but for codes that are known here.
    """
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:  # s3fs translates, and keeps the cause
        seen.append(link)
        link = link.__cause__ or link.__context__
    codes = [_code(one) for one in seen]
    kinds = [kind.__name__ for one in seen for kind in type(one).__mro__]
    for code in codes:
        if code in _CODES:
            return _CODES[code]
    for kind, words in _KINDS.items():
        if kind in kinds:
            return words
    status = next((status for status in map(_status, seen) if status), None)
    foreign = any(isinstance(one, OSError) or _is_foreign(one) for one in seen)
    if status or any(codes) or "BotoCoreError" in kinds or foreign:
        kind = f"HTTP {status}" if status else type(error).__name__
        return f"the storage refused or broke off ({kind})"
    return None


def is_of_a_storage(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, came out of a storage's library."""
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or link.__context__
    return any(_is_foreign(one) for one in seen)


def _is_foreign(error: BaseException) -> bool:
    """Return whether an error was raised in a storage's library, or is of its own kind."""
    names = {type(error).__module__, *modules_of(error)}
    return any(name.partition(".")[0] in _LIBRARIES for name in names)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of the storage's answer."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = told.get("HTTPStatusCode", getattr(error, "status", None))
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _code(error: BaseException) -> str | None:
    """Return the code of the storage's answer, which botocore keeps beside the text."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) else None


_LIBRARIES = (
    "fsspec",
    "upath",
    "s3fs",
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "google",
    "adlfs",
    "azure",
)
_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_DENIED = "access denied; the credentials in the environment do not allow it"
_NO_BUCKET = "no such bucket; make it first, or name another"
_CODES = {
    "NoSuchBucket": _NO_BUCKET,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": "the storage does not know the access key in the environment",
    "SignatureDoesNotMatch": "the storage does not accept the secret key in the environment",
    "ExpiredToken": "the session's token has expired; get a new one",
    "RequestTimeTooSkewed": "this machine's clock and the storage's differ too much; set the clock",
    "RequestExpired": "this machine's clock and the storage's differ too much; set the clock",
    "SlowDown": "the storage asks for fewer requests; use fewer workers, or larger parts",
    "403": _DENIED,
    "NoSuchKey": "no such file",
    "InternalError": "the storage failed (InternalError); run the command again",
    "ServiceUnavailable": "the storage is not available (ServiceUnavailable); try again later",
    "QuotaExceeded": "the storage is full (QuotaExceeded)",
    "EntityTooLarge": "the file is too large for the storage (EntityTooLarge)",
}
_KINDS = {
    "NoCredentialsError": "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or name a profile",
    "PartialCredentialsError": "the credentials in the environment are not complete",
    "ProfileNotFound": "the profile that the environment names does not exist",
    "EndpointConnectionError": "the storage cannot be reached at its endpoint",
    "ConnectTimeoutError": "the storage does not answer",
    "ReadTimeoutError": "the storage does not answer",
    "ConnectionClosedError": "the storage closed the connection",
    "ClientConnectorError": "the storage cannot be reached at its endpoint",
    "ClientPayloadError": "the storage broke off",
    "PermissionError": _DENIED,
    "FileNotFoundError": "no such bucket, folder or file",
    "ConnectionError": "the storage cannot be reached",
    "TimeoutError": "the storage does not answer",
}
