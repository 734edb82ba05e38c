"""What an engine's own events say of its cache beyond the turns that we send there.

Events tell of blocks, not of sessions. What they prove, as long as none is missed, is how many tokens were stored. Our own
turns account for some of that: each may store what of its prompt is not cached, and at its end it is known what it did. The
rest is others': another gateway, probes, calls that nobody follows. It takes room, so it belongs in the ledger, as of now.
Not known: what others only hit. Answers of our turns look like others' until those end; it is made up for afterwards.
"""

from agentic_serving.program.events import CacheNews, Ended

__all__ = ["Witness"]


class Witness:
    """One replica.

    Attributes:
        allowed: tokens that our turns in flight may store of their prompts.
        surplus: tokens stored and not accounted for, at most `allowed`; negative: accounted for and not seen.
    """

    __slots__ = ("_block_tokens", "_capacity", "_epoch", "_loads", "_watched", "allowed", "surplus")

    def __init__(self) -> None:
        self.allowed = 0
        self.surplus = 0
        self._watched = False
        self._epoch = 0  # ends where news were missed
        self._capacity = 0
        self._block_tokens = 1
        self._loads = False

    def begin(self, uncached_tokens: int) -> int:
        """A turn of ours goes there; the epoch, for its end."""
        self.allowed += uncached_tokens
        return self._epoch

    def end(self, uncached_tokens: int, stored_tokens: int, epoch: int) -> None:
        """It has ended, and stored so many tokens as far as is known; 0: nobody knows, and what it did is nobody's now."""
        self.allowed -= uncached_tokens
        if not self._watched:
            return
        # It may end before its events come; those before a gap never do. No engine stores more than it holds unseen.
        least = -self._capacity if epoch == self._epoch else 0
        self.surplus = max(self.surplus - stored_tokens, min(self.surplus, least))

    def stored_by(self, ended: Ended, warm_tokens: int) -> int:
        """Tokens of the full blocks that a turn computed. Its last token has no state, as nothing came after it.

        Args:
            warm_tokens: of its prompt, what was expected in the device's cache.
        """
        cached = warm_tokens if ended.cached_tokens is None else ended.cached_tokens
        if self._loads:
            cached = min(cached, warm_tokens)
        computed = ended.prompt_tokens + max(ended.output_tokens - 1, 0)
        return max(0, computed - computed % self._block_tokens - cached)

    def see(self, news: CacheNews, capacity_tokens: int) -> int:
        """News came; how many tokens others stored, as it turns out."""
        self._loads, self._capacity = news.loads, capacity_tokens
        self._block_tokens = news.block_tokens or self._block_tokens
        if not self._watched:  # turns may have ended before: whose this was nobody knows
            self._watched = True
            self._epoch += 1
            return 0
        if news.gap or news.cleared:
            self._epoch += 1
            self.surplus = max(0, self.surplus)
        if news.cleared:
            self.surplus = 0
        self.surplus += news.stored_tokens
        others = max(0, self.surplus - self.allowed)
        self.surplus -= others
        return others
