"""Pods of Krustlet, which the webhook rewrites."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.support.reviews import Json
from wagi.routemap.pod_manifest import MODULES
from wagi.webhook.gateway import GatewayOptions

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: sample
  annotations:
    alpha.wagi.krustlet.dev/default-host: "0.0.0.0:PORT"
    alpha.wagi.krustlet.dev/modules: |
      {
        "sample": {"route": "/"}
      }
spec:
  hostNetwork: true
  containers:
    - name: sample
      image: REGISTRY/sample:1.0.0
      imagePullPolicy: Always
  nodeSelector:
    kubernetes.io/arch: wasm32-wagi
"""
"""The pod of Krustlet's documentation; PORT and REGISTRY are replaced by the test's."""
OPTIONS = GatewayOptions("registry.example/wagi:0.1.0", variables={"WAGI_ACCESS_LOG": "json"})


def seed() -> Json:
    """The pod of Krustlet's documentation."""
    pod: Json = yaml.safe_load(POD.replace("REGISTRY", "registry.example").replace("PORT", "3001"))
    return pod


def pod_of(*containers: Json, modules: Json | None = None, **spec: Any) -> Json:
    """A pod whose containers are all handlers, unless modules are given."""
    if modules is None:
        modules = {item["name"]: {"route": f"/{item['name']}"} for item in containers}
    return {
        "metadata": {"name": "p", "annotations": {MODULES: json.dumps(modules)}},
        "spec": {"containers": list(containers), **spec},
    }


def handler(name: str = "one", **fields: Any) -> Json:
    """A container that is a handler."""
    return {"name": name, "image": f"registry.example/{name}:1", **fields}
