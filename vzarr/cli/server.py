"""The verb that serves repos over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from vzarr.api.app import create_app
from vzarr.api.hub import Hub
from vzarr.api.serving import serve as run
from vzarr.cli.arguments import examples
from vzarr.config import Settings


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the program."""
    lines = (
        "vzarr serve /data/repos",
        "vzarr serve /data/repos --port 0 --note 'proofreading, round 2'",
        "vzarr serve s3://lab/repos --keys sqlite:////data/keys.sqlite",
        "vzarr serve /data/repos --kafka broker1:9092 --kafka broker2:9092",
        "VZARR_ADMIN_TOKEN=secret vzarr serve /data/repos --host 0.0.0.0 --origin https://lab.example.org",
    )
    app.command(epilog=examples(*lines))(serve)


def serve(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", help="Folder or URL of repos; a folder is made.", show_default=False)
    ],
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.", show_default="8000")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    admin_token: Annotated[
        str | None, typer.Option(help="Secret of administrators, who alone make repos; or VZARR_ADMIN_TOKEN.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Text of /api/server/note.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Origin whose pages may write; repeatable.")] = None,
    readonly: Annotated[bool | None, typer.Option("--readonly", help="Refuse writes.", show_default=False)] = None,
    keys: Annotated[str | None, typer.Option(metavar="URL", help="Where the keys of new repos lie.")] = None,
    durability: Annotated[str, typer.Option(metavar="process|fsync", help="Of new repos; see init.")] = "process",
    kafka: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Kafka broker to publish changes to; repeatable.")
    ] = None,
    kafka_prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What names of Kafka topics begin with.")
    ] = None,
) -> None:
    """Serve the repos in a folder: DVID's HTTP API, and every version as plain Zarr."""
    settings = Settings.from_environment(
        host=host,
        port=port,
        admin_token=admin_token,
        note=note,
        cors_origins=tuple(origin) if origin else None,
        readonly=readonly,
        kafka_servers=tuple(kafka) if kafka else None,
        kafka_topic_prefix=kafka_prefix,
    )
    app = create_app(settings, Hub(root, keys, durability))
    run(app, settings.host, settings.port, lambda url: typer.echo(f"vzarr: serving {root} on {url}"))
