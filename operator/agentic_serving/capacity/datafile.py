"""Reading the YAML tables under `templates/`: strict, and every refusal names the file and the field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agentic_serving.errors import InvalidInput

__all__ = ["FileModel", "Source", "SourcedCount", "read_folder"]

#: Where a fact was read: an address, or a file of this project's references and its section.
Source = Annotated[str, Field(min_length=12, max_length=400)]


class FileModel(BaseModel):
    """Base of the tables' schemas: immutable, camelCase, unknown keys refused, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True
    )


class SourcedCount(FileModel):
    """A number and where it comes from."""

    value: Annotated[int, Field(ge=1)]
    source: Source


Model = TypeVar("Model", bound=FileModel)


def read_folder(folder: Path, schema: type[Model]) -> Iterator[tuple[Path, Model]]:
    """Every `*.yaml` of a folder in the order of file names.

    Raises:
        InvalidInput: a file is not YAML or does not follow the schema; the field is the file's name.
    """
    for path in sorted(folder.glob("*.yaml")):
        try:
            yield path, schema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            raise InvalidInput(path.name, f"is not YAML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InvalidInput(path.name, f"{where}: {first['msg']}") from error
