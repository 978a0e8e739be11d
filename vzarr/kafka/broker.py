"""The way to a Kafka cluster, by aiokafka: messages of a topic in order, acknowledged before the next ones are sent.

All messages of a topic go to its first partition, for order is kept within one only.  After any failure the client is
made anew, because the old one may still have something on its way; so a message may come twice, but none is left out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Protocol

from vzarr.errors import StorageError, UnsupportedError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

SECONDS = 10.0
"""How long one request may take."""
_BATCH_BYTES = 1_000_000
_REQUEST_BYTES = 1_100_000
"""A little more than a broker takes by default, so that it is the broker who refuses what is too large."""


class UnreachableError(StorageError):
    """No broker answers."""


class RefusedError(StorageError):
    """A broker did not take messages of a topic, or did not say in time that it did."""


class Broker(Protocol):
    """Where messages go."""

    def send(self, topic: str, messages: Sequence[bytes]) -> None:
        """Deliver messages in order; returns once they are acknowledged.

        Raises
        ------
        UnreachableError
            If no broker answers.
        RefusedError
            If these messages were not acknowledged; some of them may have been delivered.
        """

    def close(self) -> None:
        """Let go of connections; what is being sent by another thread fails as with an `UnreachableError`."""


def library() -> Any:
    """The module that speaks to Kafka, an extra."""
    try:
        import aiokafka
    except ImportError as e:
        raise UnsupportedError("publishing to Kafka needs aiokafka: pip install 'vzarr[kafka]'") from e
    return aiokafka


class KafkaBroker:
    """A Kafka cluster.

    Parameters
    ----------
    servers
        ``HOST:PORT`` of some of its brokers.

    Raises
    ------
    UnsupportedError
        If aiokafka is not installed.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._library = library()
        self._failures = (self._library.errors.KafkaError, OSError, TimeoutError)
        # What goes wrong is raised here, and said once by who asked; the client would say it ten times a second.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._servers = list(servers)
        self._producer: AIOKafkaProducer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._sending: Future[None] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def send(self, topic: str, messages: Sequence[bytes]) -> None:
        """See `Broker.send`."""
        with self._lock:
            if self._closed:
                raise UnreachableError(errno.ESHUTDOWN, "publishing has ended")
            self._sending = asyncio.run_coroutine_threadsafe(self._send(topic, messages), self._running())
        try:
            self._sending.result()
        except CancelledError as error:
            raise UnreachableError(errno.ESHUTDOWN, "publishing has ended") from error

    def close(self) -> None:
        """See `Broker.close`."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if self._sending is not None:
            self._sending.cancel()
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop of a thread of its own, which begins with the first message."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="vzarr-kafka-client", daemon=True)
            self._thread.start()
        return self._loop

    async def _send(self, topic: str, messages: Sequence[bytes]) -> None:
        producer = await self._started()
        try:
            for batch in _batches(producer, messages):
                async with asyncio.timeout(2 * SECONDS):
                    await (await producer.send_batch(batch, topic, partition=0))
        except self._failures as error:
            await self._stop()
            raise RefusedError(errno.EIO, f"Kafka did not take messages of topic {topic}: {error!r}") from error

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = self._library.AIOKafkaProducer(
                bootstrap_servers=self._servers,
                client_id="vzarr",
                acks="all",
                enable_idempotence=True,
                max_batch_size=_BATCH_BYTES,
                max_request_size=_REQUEST_BYTES,
                request_timeout_ms=int(SECONDS * 1000),
            )
            try:
                async with asyncio.timeout(2 * SECONDS):
                    await producer.start()
            except BaseException as error:
                await producer.stop()
                if not isinstance(error, self._failures):
                    raise
                servers = ", ".join(self._servers)
                raise UnreachableError(errno.EHOSTUNREACH, f"no Kafka broker answers at {servers}: {error}") from error
            self._producer = producer
        return self._producer

    async def _stop(self) -> None:
        """Let go of the client; what it cannot deliver any more is sent again by the next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            stopping = asyncio.ensure_future(producer.stop())
            await asyncio.wait([stopping], timeout=SECONDS)
            stopping.cancel()


def _batches(producer: AIOKafkaProducer, messages: Sequence[bytes]) -> Iterator[Any]:
    """Messages in batches that a broker takes or refuses as a whole."""
    batch, fresh = producer.create_batch(), True
    for message in messages:
        if batch.append(key=None, value=message, timestamp=None) is None and not fresh:
            batch.close()
            yield batch
            batch = producer.create_batch()
            batch.append(key=None, value=message, timestamp=None)
        fresh = False
    batch.close()
    if not fresh:
        yield batch
