"""Route maps in the formats of others, with everything that is supported."""

from __future__ import annotations

from pathlib import Path

from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.reader import read_route_map

POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: sample
  annotations:
    alpha.wagi.krustlet.dev/default-host: "0.0.0.0:3001"
    alpha.wagi.krustlet.dev/modules: |
      {
        "second": {"route": "/second/...", "entrypoint": "run", "allowed_hosts": ["https://a.b"]},
        "first": {"route": "/"}
      }
spec:
  hostNetwork: true
  containers:
    - name: first
      image: registry.example/first:1.0.0
      env:
        - {name: GREETING, value: hi}
        - name: EMPTY
      volumeMounts:
        - {name: data, mountPath: /data, readOnly: true}
        - {name: data, mountPath: /again}
    - name: second
      image: registry.example/second
      imagePullPolicy: Never
  volumes:
    - name: data
      hostPath: {path: /srv/data, type: Directory}
  nodeSelector:
    kubernetes.io/arch: wasm32-wagi
  tolerations:
    - {key: node.kubernetes.io/network-unavailable, operator: Exists}
"""
"""A pod manifest."""
DIGEST = "0123456789abcdef" * 4
SPIN_2 = f"""\
#:schema https://schemas.spinframework.dev/spin/manifest-v2/latest.json
spin_manifest_version = 2

[application]
name = "sample"
version = "1.0.0"
description = "A sample"
authors = ["Ann"]
targets = ["spin-up:3.3"]

[application.trigger.http]
base = "/app/"

[application.tool.wagi]
timeout = 5

[[trigger.http]]
id = "all"
route = "/..."
component = "first"
executor = {{ type = "wagi", argv = "prog ${{ARGS}}", entrypoint = "main" }}

[[trigger.http]]
route = "/first/"
component = "first"
executor = {{ type = "wagi" }}

[[trigger.http]]
route = "/longer/path/..."
component = "second"
executor = {{ type = "wagi" }}

[[trigger.http]]
route = "/longer/*"
executor = {{ type = "wagi" }}
[trigger.http.component]
source = "inline.wasm"

[component.first]
source = "target/first.wasm"
description = "The first"
environment = {{ GREETING = "hi" }}
files = ["images/**/*.png", {{ source = "./static", destination = "/" }}]
exclude_files = ["**/secret"]
allowed_outbound_hosts = ["https://a.example", "*://b.example:*"]
key_value_stores = []
variables = {{}}
[component.first.build]
command = "make all"
workdir = "native code"
watch = ["src/**/*.c", "Makefile"]
[component.first.tool.wagi]
memory_limit = "1MiB"
timeout = 0
[component.first.tool.other]
anything = 1
[component.first.profile.debug]
source = "debug.wasm"

[component.second.source]
url = "https://a.example/second.wasm"
digest = "sha256:{DIGEST}"
"""
"""A spin.toml of version 2."""
SPIN_1 = """\
spin_version = "1"
name = "sample"
version = "1.0.0"
authors = ["Ann"]
description = "A sample"
trigger = { type = "http", base = "/" }

[[component]]
id = "second"
source = "second.wasm"
description = "The second"
environment = { GREETING = "hi" }
files = ["static/*"]
allowed_http_hosts = ["a.example"]
allowed_outbound_hosts = ["http://b.example"]
[component.trigger]
route = "/..."
executor = { type = "wagi" }
[component.build]
command = ["npm install", "npm run build"]

[[component]]
id = "first"
source = "first.wasm"
[component.trigger]
route = "/"
executor = { type = "wagi" }
"""
"""A spin.toml of version 1."""


def read_spin(folder: Path, text: str = SPIN_2) -> RouteMap:
    """Read a text as a spin.toml."""
    path = folder / "spin.toml"
    path.write_text(text)
    return read_route_map(path)


def by_route(folder: Path, text: str = SPIN_2) -> dict[str, ModuleEntry]:
    """Read a text as a spin.toml; return its entries by route."""
    return {entry.route: entry for entry in read_spin(folder, text).modules}
