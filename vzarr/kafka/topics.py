"""Names of Kafka topics: one for each instance, one for the versions of a repo, one for a server's requests.

Source: DVID HTTP API, section 2.10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vzarr.errors import InvalidInputError

_ALLOWED = re.compile(r"[a-zA-Z0-9._-]*")
_REST = 160
"""Characters of a topic's name beside prefix and suffix that may be needed; Kafka allows 249."""


@dataclass(frozen=True)
class Topics:
    """How the topics of a server are called.

    Parameters
    ----------
    prefix
        What the names of topics of repos and instances begin with.
    suffixes
        ``DATA-UUID:SUFFIX``, which the names of these instances' topics end with.
    activity
        Topic of the server's requests; by default ``dvidactivity-HOST``.
    host
        Name of the machine.
    """

    prefix: str = ""
    suffixes: Sequence[str] = ()
    activity: str = ""
    host: str = ""

    def __post_init__(self) -> None:
        for part in (self.prefix, *self._suffixes().values()):
            if not _ALLOWED.fullmatch(part) or len(part) > (249 - _REST) // 2:
                raise InvalidInputError(
                    f"a part of a topic's name should be at most {(249 - _REST) // 2} of a-z, A-Z, 0-9, '.', '_' and"
                    f" '-', not {part!r}"
                )

    def _suffixes(self) -> dict[str, str]:
        pairs = [text.split(":") for text in self.suffixes]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            raise InvalidInputError(f"suffixes of topics should be DATA-UUID:SUFFIX, not {', '.join(self.suffixes)}")
        return dict(pairs)

    def of_repo(self, root: str) -> str:
        """Topic of what happens to the versions of a repo, which its root names."""
        return f"{self.prefix}dvidrepo-{root}-repo-ops"

    def of_instance(self, root: str, data_uuid: str) -> str:
        """Topic of the mutations of an instance."""
        suffix = self._suffixes().get(data_uuid)
        return f"{self.prefix}dvidrepo-{root}-data-{data_uuid}" + (f"-{suffix}" if suffix else "")

    @property
    def of_activity(self) -> str:
        """Topic of the requests that the server answered."""
        return re.sub(r"[^a-zA-Z0-9._-]+", "-", self.activity or f"dvidactivity-{self.host}")[:249]
