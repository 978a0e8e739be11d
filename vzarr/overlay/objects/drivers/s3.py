"""S3 and what speaks its protocol, through s3fs: conditions, ranges and listings as the protocol defines them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine, Sequence
from typing import Any, NoReturn, TypeVar

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from vzarr.errors import StorageError
from vzarr.overlay.objects.drivers import systems
from vzarr.overlay.objects.drivers.driver import PAGE, Driver, Entry, TransientError

T = TypeVar("T")
_CLAIM = "vzarr-claim"
_CHECKSUM, _NEW = "x-amz-checksum-sha256", "if-none-match"
_OTHER_BYTES = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "InvalidRequest"}
"""Codes by which servers say that a body has not the checksum that came with it."""
READ_SECONDS = 30.0
LIST_SECONDS = 60.0

_AGAIN = {408, 409, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed; 409 is a create that met another (ConditionalRequestConflict)."""
_AGAIN_CODES = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError"}
_CREDENTIALS = {
    "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "ExpiredTokenException", "AuthFailure", "InvalidClientTokenId", "XAdminUserNotFound",
}  # fmt: skip
_LOST = (
    OSError, aiohttp.ClientError, BotoConnectionError, HTTPClientError, ResponseParserError,
    asyncio.IncompleteReadError,
)  # fmt: skip
"""How a request ends that had no answer, or half of one."""


class _Absent(Exception):
    """No such object."""


class _Refused(Exception):
    """A condition did not hold."""


class _OutOfRange(Exception):
    """An object has no byte in the range."""


class S3(Driver):
    """Requests to a bucket of S3.

    Parameters
    ----------
    bucket
        Its name.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self._system: Any = systems.open_system("s3")

    @property
    def system(self) -> Any:
        """The file system of s3fs that holds connections and credentials."""
        system = self._system = self._system or systems.open_system("s3")
        return system

    def read(self, key: str, start: int = 0, stop: int | None = None) -> tuple[bytes | memoryview, int] | None:
        """See `Driver.read`: the answer to a range tells the size of the whole."""
        span = {"Range": _range(start, stop)} if start or stop is not None else {}
        try:
            return self._run(self._read(key, span), READ_SECONDS)
        except _Absent:
            return None
        except _OutOfRange:
            size = self.size(key)
            return None if size is None else (b"", size)

    async def _read(self, key: str, span: dict[str, str]) -> tuple[bytes, int]:
        answer = await self._call("get_object", Key=key, **span)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        if len(data) != answer["ContentLength"]:
            raise TransientError(f"{len(data)} of {answer['ContentLength']} bytes came")
        whole = answer.get("ContentRange")
        return data, int(whole.rpartition("/")[2]) if whole else len(data)

    def size(self, key: str) -> int | None:
        """See `Driver.size`: by the first byte, for an answer without a body does not tell why it is one."""
        try:
            return self._run(self._read(key, {"Range": _range(0, 1)}), READ_SECONDS)[1]
        except _Absent:
            return None
        except _OutOfRange:
            return 0

    def write(self, key: str, data: bytes, seconds: float, *, claim: str = "") -> bool:
        """See `Driver.write`: a claim is kept in the object's metadata, for answers get lost below this module too."""
        condition = {"IfNoneMatch": "*", "Metadata": {_CLAIM: claim}} if claim else {}
        try:
            self._run(self._call("put_object", Key=key, Body=data, **condition), seconds)
        except _Refused:
            return self._claimed(key) == claim
        return True

    def _claimed(self, key: str) -> str | None:
        """The claim under which an object was made."""
        try:
            answer = self._run(self._call("head_object", Key=key), READ_SECONDS)
        except _Absent:
            return None
        found: str | None = answer.get("Metadata", {}).get(_CLAIM)
        return found

    def remove(self, keys: Sequence[str]) -> None:
        """See `Driver.remove`."""
        if len(keys) == 1:
            try:
                self._run(self._call("delete_object", Key=keys[0]), READ_SECONDS)
            except _Absent:
                return
            return
        listed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        failed = self._run(self._call("delete_objects", Delete=listed), LIST_SECONDS).get("Errors", ())
        bad = [f for f in failed if f.get("Code") != "NoSuchKey"]
        if bad:
            raise StorageError(f"could not delete {bad[0].get('Key')}: {bad[0].get('Message')}")

    def copy(self, source: str, target: str, seconds: float) -> bool:
        """See `Driver.copy`."""
        where = {"Bucket": self.bucket, "Key": source}
        try:
            self._run(self._call("copy_object", Key=target, CopySource=where), seconds)
        except _Absent:
            return False
        return True

    def sign_reads(self, keys: Sequence[str], seconds: int) -> list[str] | None:
        """See `Driver.sign_reads`."""
        return self._signed([("get_object", {"Key": key}) for key in keys], seconds)

    def sign_writes(self, objects: Sequence[tuple[str, str]], seconds: int) -> list[tuple[str, dict[str, str]]] | None:
        """See `Driver.sign_writes`: checksum and condition are signed headers, so that no others can be sent."""
        sums = [_base64(digest) for _, digest in objects]
        named = zip(objects, sums, strict=True)
        asked = [("put_object", {"Key": key, "ChecksumSHA256": c, "IfNoneMatch": "*"}) for (key, _), c in named]
        urls = self._signed(asked, seconds)
        if urls is None or not all(_CHECKSUM in url and _NEW in url for url in urls):
            return None
        return [(url, {_CHECKSUM: checksum, _NEW: "*"}) for url, checksum in zip(urls, sums, strict=True)]

    def _signed(self, asked: Sequence[tuple[str, dict[str, str]]], seconds: int) -> list[str] | None:
        return None if self.system.anon else self._run(self._sign(asked, seconds), READ_SECONDS)

    async def _sign(self, asked: Sequence[tuple[str, dict[str, str]]], seconds: int) -> list[str]:
        client = await self.system.set_session()
        return [
            await client.generate_presigned_url(verb, Params={"Bucket": self.bucket, **options}, ExpiresIn=seconds)
            for verb, options in asked
        ]

    def refuses_others(self, key: str) -> bool:
        """See `Driver.refuses_others`."""
        try:
            self._run(self._call("put_object", Key=key, Body=b"one", ChecksumSHA256=_base64("0" * 64)), READ_SECONDS)
        except StorageError as e:
            answer = e.__cause__
            return isinstance(answer, ClientError) and answer.response["Error"].get("Code") in _OTHER_BYTES
        self.remove([key])
        return False

    def sha256(self, key: str) -> str | None:
        """See `Driver.sha256`."""
        try:
            answer = self._run(self._call("head_object", Key=key, ChecksumMode="ENABLED"), READ_SECONDS)
        except _Absent:
            return None
        found = answer.get("ChecksumSHA256", "")
        return base64.b64decode(found).hex() if found and "-" not in found else None

    def list_after(self, prefix: str, after: str) -> list[Entry]:
        """See `Driver.list_after`; a server may give fewer than it is asked for at a time, and say so."""
        found: list[Entry] = []
        start = {"StartAfter": after} if after else {}
        while True:
            asked = self._call("list_objects_v2", Prefix=prefix, MaxKeys=PAGE - len(found), **start)
            answer = self._run(asked, LIST_SECONDS)
            some = answer.get("Contents", ())
            found += [Entry(o["Key"], o["Size"], str(o.get("ETag", "")).strip('"')) for o in some]
            if len(found) >= PAGE or not answer.get("IsTruncated"):
                return found
            start = {"ContinuationToken": answer["NextContinuationToken"]}

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `Driver.list_dir`."""
        folders: list[str] = []
        names: list[str] = []
        token: dict[str, str] = {}
        while True:
            listing = self._call("list_objects_v2", Prefix=prefix, Delimiter="/", **token)
            answer = self._run(listing, LIST_SECONDS)
            folders += [p["Prefix"][len(prefix) : -1] for p in answer.get("CommonPrefixes", ())]
            names += [o["Key"][len(prefix) :] for o in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return folders, names
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    async def _call(self, verb: str, **options: Any) -> Any:
        return await self.system._call_s3(verb, Bucket=self.bucket, **options)

    def _run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        try:
            return systems.run(work, seconds)
        except (*_LOST, BotoCoreError) as e:
            answer = e if isinstance(e, ClientError) else e.__cause__
            if isinstance(answer, ClientError):
                self._judge(answer)
            if isinstance(e, _LOST):
                raise TransientError(str(e) or type(e).__name__) from e
            self._renew()
            raise StorageError(f"s3://{self.bucket}: {e}") from e

    def _judge(self, error: ClientError) -> NoReturn:
        """What an answer that is no success means."""
        code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            raise StorageError(f"there is no bucket {self.bucket!r}") from error
        if code in ("NoSuchKey", "404"):
            raise _Absent
        if status == 412:
            raise _Refused
        if status == 416:
            raise _OutOfRange
        if code in _CREDENTIALS:
            self._renew()
            raise StorageError(
                f"s3://{self.bucket} does not accept the credentials ({code}: {text}); they may have expired: renew"
                " them and try again"
            ) from error
        if status in (401, 403):
            self._renew()
            raise StorageError(
                f"s3://{self.bucket} denies access ({code}: {text}); without the right to list, what is absent is"
                " denied too"
            ) from error
        if status in _AGAIN or code in _AGAIN_CODES:
            raise TransientError(f"{status} {code}: {text}") from error
        raise StorageError(f"s3://{self.bucket}: {status} {code}: {text}") from error

    def _renew(self) -> None:
        """Read credentials anew for the next request: what was refused may be mended while the process runs on."""
        systems.renew_system("s3", self._system)
        self._system = None


def _base64(digest: str) -> str:
    """A hash in hex as S3's headers spell it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _range(start: int, stop: int | None) -> str:
    if start < 0:
        return f"bytes={start}"
    return f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"
