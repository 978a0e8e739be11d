"""The one place where file systems of fsspec are opened: no cached listings, one per process, a new one after a fork.

They are kept for as long as the process runs, for making one costs more than most requests.  Those that a fork
inherited are left alone for ever: even closing one would disturb the parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from inspect import Parameter, signature
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import get_loop
from fsspec.config import conf

from vzarr.errors import UnsupportedError
from vzarr.overlay.objects.drivers.driver import TransientError

T = TypeVar("T")
CONNECTIONS = 64
CONNECT_SECONDS = 5

_systems: dict[tuple[int, str, str], Any] = {}
_lock = threading.Lock()


def open_system(protocol: str) -> Any:
    """The file system of a protocol in this process, set up by the environment and by fsspec's configuration.

    Raises
    ------
    UnsupportedError
        If no package for the protocol is installed.
    """
    key = (os.getpid(), protocol, repr(conf.get(protocol)))
    with _lock:
        if key not in _systems:
            _systems[key] = _opened(protocol)
        return _systems[key]


def renew_system(protocol: str, old: Any) -> None:
    """Let the next `open_system` make a new one: credentials may have been renewed."""
    with _lock:
        for key in [k for k, system in _systems.items() if system is old]:
            # Kept under another name, for requests may be under way.
            _systems[key[0], f"{protocol} {id(old)}", ""] = _systems.pop(key)


def run(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Result of a coroutine on fsspec's own loop.

    Raises
    ------
    TransientError
        If it takes longer.
    """
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), get_loop())
    try:
        return future.result()
    except TimeoutError as e:
        raise TransientError(f"no answer within {seconds:.0f} s") from e
    except BaseException:
        future.cancel()
        raise


_NAMED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def _opened(protocol: str) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "s3":
        given = (conf.get("s3") or {}).get("config_kwargs", {})
        options |= {"asynchronous": True, "config_kwargs": {**_S3_CONFIG, **given}}
    try:
        _, *asked = signature(fsspec.get_filesystem_class(protocol).__init__).parameters.values()
        # Asked before, for some fall over what they lack when they are thrown away.
        lacking = [p.name for p in asked if p.default is p.empty and p.kind in _NAMED]
        if lacking:
            raise TypeError(f"it needs {', '.join(lacking)}, and so cannot hold a repo")
        system = fsspec.filesystem(protocol, **options)
    except (ImportError, ValueError, TypeError, OSError) as e:  # some file systems need more than a name
        raise UnsupportedError(f"cannot open {protocol}://: {e}") from e
    if protocol == "s3":
        system.retries = 1  # `RemoteObjects` counts and repeats requests itself
    return system


# Checksums beyond S3's own would cost a second pass, and older servers know none.
_S3_CONFIG: dict[str, Any] = {
    "signature_version": "s3v4",  # of signed URLs too, where the older one is the default
    "max_pool_connections": CONNECTIONS,
    "connect_timeout": CONNECT_SECONDS,
    "retries": {"total_max_attempts": 1},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


@atexit.register
def _close() -> None:
    """Close connections, lest the end of the process complain."""
    for (pid, _, _), system in list(_systems.items()):
        client = getattr(system, "_s3", None)
        if pid == os.getpid() and client is not None:
            try:
                run(client.__aexit__(None, None, None), 1.0)
            except (TransientError, RuntimeError, OSError):
                continue  # the end of the process closes them in any case


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
