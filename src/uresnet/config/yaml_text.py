"""YAML as configurations use it: mappings, lists and plain values; nothing that grows or has types of its own."""

from __future__ import annotations

from typing import Any

import yaml

MOST_YAML = 256 << 10
"""Bytes of a configuration."""

_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; dates are text.

    Raises ``ValueError`` for what is no YAML, for anchors and aliases (a few of them can stand for gigabytes), tags,
    and names that a mapping has twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("it is nested too deep") from None


class _Loader(yaml.SafeLoader):
    """Without what a configuration does not need."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag != _TIMESTAMP]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"line {line} has an anchor or alias (& or *); write the values out")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"line {line} has a tag (!); write a plain value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"line {node.start_mark.line + 1}: a mapping has the name '{twice[:60]}' two times")
        return super().construct_mapping(node, deep)
