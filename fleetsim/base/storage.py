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

from fleetsim.base.errors import FleetsimError, InputError

#: What to install for URLs and schedulers.
EXTRA = "pip install 'fleetsim[cluster]'"
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
    if not rest.strip("/"):
        raise InputError(text, f"names no place; allowed: a path or {_FORM}")
    if "@" in rest.partition("/")[0] or "?" in rest or "#" in rest:  # never repeated
        raise InputError(
            f"{scheme}://…", f"found a URL with @, ? or #; allowed: {_FORM}", next_step=_FROM
        )
    try:
        import fsspec
        from upath import UPath
    except ImportError:
        raise InputError(
            text, "URLs need an extra that is not installed", next_step=EXTRA
        ) from None
    if scheme in ("file", "local"):
        return Path("/" + rest.lstrip("/"))
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise InputError(
            text, f"found the scheme {scheme!r}; allowed: those of fsspec, such as s3, gs or abfs"
        ) from None
    except ImportError as error:
        raise InputError(
            text,
            f"the library for {scheme}:// is not installed",
            next_step=EXTRA if scheme == "s3" else str(error),
        ) from None
    # What others write in the meantime counts, so nothing is remembered of a folder's content.
    with told(text):
        found: Any = UPath(text, use_listings_cache=False)
        return found  # type: ignore[no-any-return]  # a Path in all that is used of it


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
        why = _reason(error)  # an empty place is none either
        if why == _NO_BUCKET:
            raise InputError(shown, why) from None
    except Exception as error:
        why = _reason(error) or f"cannot be used ({type(error).__name__})"
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
        why = _reason(error)
        if why is None:
            raise
        raise FleetsimError(f"{where}: {why}") from None


def _reason(error: BaseException) -> str | None:
    """Return in words what is wrong with a storage; None for an error of another kind."""
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
    code = next((code for code in codes if code), None)
    if code or "BotoCoreError" in kinds or isinstance(error, OSError):
        return f"the storage refused or broke off ({code or type(error).__name__})"
    return None


def _code(error: BaseException) -> str | None:
    """Return the code of the storage's answer, which botocore keeps beside the text."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) else None


_BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "oci")
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
