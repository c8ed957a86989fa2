"""YAML that people write: one mapping in a file, and no key twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rekindle.errors import ConfigError, DataError


class _Loader(yaml.SafeLoader):
    """The safe loader; a key that is there twice is an error, where YAML keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, for later `<<` brings in keys that may be overridden.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(
                    f"the key '{key.value}' occurs twice",
                    got=f"lines {lines[name]} and {line}",
                    why="YAML silently keeps the second alone",
                    fix="rename one, or merge the two",
                )
            lines[name] = line
        return node


def read_yaml(text: str) -> Any:
    """Plain data.

    Raises:
        ConfigError: a key is twice in one mapping.
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def read_mapping(path: Path, *, kind: str, see: str) -> dict[str, Any]:
    """The mapping that a file holds; `kind` and `see` (where there are such files) for messages.

    Raises:
        DataError: the file does not exist.
        ConfigError: it is not UTF-8, not YAML, no mapping, or has a key twice.
    """
    try:
        tree = read_yaml(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{kind} {path} does not exist", fix=see) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{kind} {path} is not UTF-8 text", got=str(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{kind} {path} is not valid YAML", got=str(error)) from error
    except ConfigError as error:
        raise ConfigError(f"{kind} {path}: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{kind} {path} is not a mapping",
            got="nothing" if tree is None else tree,
            wanted=f"sections, e.g. '{'study: lens' if kind == 'study' else 'method: grpo'}'",
        )
    return tree
