"""A Hugging Face `config.json` as data: typed access, and a refusal that says what is missing."""

from collections.abc import Mapping
from typing import Any

__all__ = ["CannotTellError", "HfConfig"]


class CannotTellError(Exception):
    """The configuration does not say what is asked; the message says what is missing.

    Never leaves this room: `inspect` turns it into a value.
    """


class HfConfig:
    """The language model's part of a `config.json`.

    Multimodal models nest it under `text_config` (Gemma 3, Qwen-VL, Kimi) or `llm_config` (Nemotron VL).
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        nested = raw.get("text_config") or raw.get("llm_config")
        self._fields: Mapping[str, Any] = nested if isinstance(nested, Mapping) else raw
        model_type = self._fields.get("model_type") or raw.get("model_type")
        if not isinstance(model_type, str) or not model_type:
            raise CannotTellError("model_type is missing")
        #: Family of the language model, as Transformers names it.
        self.model_type: str = model_type

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def get(self, key: str) -> object:
        return self._fields.get(key)

    def optional_count(self, *keys: str) -> int | None:
        """The first of `keys` that is set, as a whole number of at least 1."""
        for key in keys:
            value = self._fields.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CannotTellError(f"{key} is {value!r}, not a whole number of at least 1")
            return value
        return None

    def count(self, *keys: str) -> int:
        value = self.optional_count(*keys)
        if value is None:
            raise CannotTellError(f"{' or '.join(keys)} is missing")
        return value

    def index(self, key: str) -> int:
        """A whole number of at least 0; 0 where it is not set."""
        value = self._fields.get(key)
        return 0 if value is None or value == 0 else self.count(key)

    def optional_list(self, key: str) -> list[Any] | None:
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise CannotTellError(f"{key} is not a list")
        return value

    def nested(self, key: str) -> "HfConfig | None":
        """A table of the configuration, read like the configuration itself."""
        value = self._fields.get(key)
        if not isinstance(value, Mapping):
            return None
        return HfConfig({**value, "model_type": self.model_type})
