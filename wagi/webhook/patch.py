"""JSON patches (RFC 6902) for what the webhook changes in a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def make_patch(before: dict[str, Any], after: dict[str, Any]) -> list[Operation]:
    """Return the operations that change the annotations and the spec of a pod.

    Args:
        before: The pod as the API server sent it.
        after: The pod as it should be.
    """
    return [
        *_annotations(before["metadata"], after["metadata"]),
        *_members("/spec", before["spec"], after["spec"]),
    ]


def _annotations(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Operation]:
    path = "/metadata/annotations"
    if before.get("annotations"):
        yield from _members(path, before["annotations"], after["annotations"])
    elif after.get("annotations"):
        yield {"op": "add", "path": path, "value": after["annotations"]}


def _members(path: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Operation]:
    for key in before.keys() | after.keys():
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            yield {"op": "remove", "path": place}
        elif key not in before or before[key] != after[key]:
            yield {"op": "add", "path": place, "value": after[key]}  # replaces a member
