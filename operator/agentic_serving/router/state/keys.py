"""The store's keys, and what lies under them. All of a stack's are in one slot of a cluster, by the braces.

`agentic-serving:{<namespace>/<stack>}:session:<00..ff>`: hash, a session's name → record; 256 of them, so that reading one is short.
`...:learned`: what is not any session's.  `...:meta`: hash; `format`, and `epoch`: how many processes have been the active one.
`agentic-serving:{<namespace>}:service`: stream; what runs attained where, for the stacks of a pipeline.
"""

from dataclasses import dataclass
from zlib import crc32

__all__ = ["BUCKETS", "Keys"]

BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Keys:
    namespace: str
    stack: str

    @property
    def meta(self) -> str:
        return self._of("meta")

    @property
    def learned(self) -> str:
        return self._of("learned")

    @property
    def stream(self) -> str:
        return f"agentic-serving:{{{self.namespace}}}:service"

    def bucket(self, number: int) -> str:
        return self._of(f"session:{number:02x}")

    def bucket_of(self, session: str) -> int:
        return crc32(session.encode("utf-8", "surrogatepass")) % BUCKETS

    def all(self) -> list[str]:
        """But the stream, which other stacks use too."""
        return [self.meta, self.learned, *(self.bucket(number) for number in range(BUCKETS))]

    def _of(self, name: str) -> str:
        return f"agentic-serving:{{{self.namespace}/{self.stack}}}:{name}"
