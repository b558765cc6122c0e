"""Generate the pages that are derived from the code.

python -m docs.make_pages
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from docs import chart, commands
from wagi.templates import LANGUAGES, STATIC_COMMANDS

DOCS = Path(__file__).parent

_REFERENCE = """\
# modules.toml

`modules.toml` maps routes to modules. Entries are matched in order: the first one whose route matches the path handles
the request. The gateway itself responds to `GET /healthz`. A module that exports `_routes` adds
[routes of its own](contract.md#dynamic-routes) below its entry.

`wagi check` loads everything that the file names and reports every error with its line; it also warns of routes that can
never match. Editors that support JSON schemas complete the keys if the first line of the file is `#:schema` followed by
the path of [modules.schema.json](modules.schema.json), which `wagi schema` prints.

## All keys by example

```toml title="reference.toml"
default_host = "localhost:3000"      # for requests whose Host header lacks a host or port
include = ["conf.d/*.toml"]          # further files with entries

[defaults]                           # defaults for all modules; an entry's own value takes precedence
environment = {GREETING = "hello"}
# Limits, with their default values.
timeout = 30                         # seconds from the start of the guest to the end of its response
cpu_timeout = 10                     # seconds of CPU time
memory_limit = "256MiB"              # or a number of bytes
max_queue = 1000                     # requests waiting for a slot
queue_timeout = 10                   # seconds a request may wait
body_limit = "1GiB"                  # size of a request body
environment_limit = "256KiB"         # size of the variables and argv
output_buffer = "256KiB"             # unsent output at which the guest is suspended
header_limit = "64KiB"               # size of a response's header block
stderr_limit = "1MiB"                # per guest; the rest is dropped
http_max_concurrency = 8             # open outbound HTTP responses per guest
http_timeout = 30                    # seconds for an outbound request and its response
http_response_limit = "16MiB"        # size of the body of that response
max_concurrency = 100                # concurrent guests, in all workers together; unlimited by default

[[module]]
route = "/hello/..."                 # this path and all paths below it; without /..., this path only
module = "hello.wasm"                # .wasm or .wat, relative to this file, or file:///absolute/path
entrypoint = "_start"                # the exported function to call
argv = "${SCRIPT_NAME} ${ARGS}"      # template: the path of the request, and one argument per query item
pass_authorization = true            # pass the Authorization header to the handler; false by default
volumes = {"/data" = "data"}         # guest path = directory, or {path = "data", readonly = true}
environment = {GREETING = "hi"}
timeout = 5
memory_limit = "64MiB"
max_concurrency = 10
allowed_hosts = ["https://api.example.com"]  # hosts the handler may call; see Outbound HTTP
http_max_concurrency = 2
build = "cargo build --release"      # the command that builds the module: run by wagi build, and with
watch = ["src"]                      # --watch when one of these files or directories changes
snapshot = true                      # start the module once, not for each request; or a table, see Snapshots
pull = "always"                      # resolve an image's tag at each start; or "if-not-present", "never"
bindle_server = "http://localhost:8080/v1"   # for a bindle: module; the default is --bindle-url
# Expected SHA-256 of the module; required for an https: URL
sha256 = "e62f611d3a578d0e43caf2ddc924fe436ddbdf79737339b5bf06d5a0a6264244"
repository = ""                      # reserved by the original Wagi, ignored

[[module]]
route = "/assets/..."
static = "public"                    # a directory in place of a module
index = "index.html"                 # the file that represents a directory
not_found = "404.html"               # sent with status 404 for paths without a file
cache_control = {"*.html" = "no-cache", "*" = "max-age=3600"}   # or one value for all files

[[module]]
route = "/app/..."
static = "app"
fallback = "index.html"              # sent with status 200 for paths without a file
```"""

_SIZES = """
Sizes are numbers of bytes or strings such as `"64MiB"`. A value of 0 disables a limit, except for those marked † in
[Security](security.md#limits), which describes what happens when a limit is exceeded and how the defaults were chosen.
[Outbound HTTP](outbound.md) explains `allowed_hosts`, [Static files](static.md) entries with `static`, and `include`.
"""

_QUICK_START = """\
# Quick start

Install wagi with `pip install wagi pytest`, then follow one of the sections below. Each creates a project with a handler,
a build command, a `modules.toml` and a test, and serves it on http://localhost:3000. With `--watch`, the handler is rebuilt
and reloaded whenever it changes. `wagi serve --dev` adds a page that shows
[what the handler receives and does](handlers.md)."""


def reference() -> str:
    """Every key of modules.toml, from its JSON schema."""
    command = [sys.executable, "-m", "wagi", "schema"]
    schema = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    tables = schema["$defs"]
    defaults = tables["Defaults"]["properties"]
    entry = {k: v for k, v in tables["ModuleEntry"]["properties"].items() if k not in defaults}
    whole = {k: v for k, v in schema["properties"].items() if k in ("default_host", "include")}
    static = {k: v for k, v in tables["StaticEntry"]["properties"].items() if k != "route"}
    parts = [
        _REFERENCE,
        *_section("Top level", whole),
        *_section("Keys of an entry, `[[module]]`", entry),
        *_section("Keys of an entry or of `[defaults]`", defaults),
        *_section("Keys of a volume", tables["Volume"]["properties"]),
        *_section("Keys of an entry with static files", static),
        _SIZES,
    ]
    return "\n".join(parts)


def _section(title: str, keys: dict[str, dict[str, object]]) -> list[str]:
    rows = [
        f"| `{key}` | {_default(value)} | {value['description']} |" for key, value in keys.items()
    ]
    return ["", f"## {title}", "", "| key | default | description |", "| --- | --- | --- |", *rows]


def _default(value: dict[str, object]) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    if default is None:
        return "none"
    if isinstance(default, int) and default >= 1024 and default % 1024 == 0:
        units = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
        unit = next(unit for unit, size in units.items() if default >= size)
        return f'`"{default // units[unit]}{unit}"`'
    return f"`{json.dumps(int(default) if isinstance(default, float) else default)}`"


def quickstart() -> str:
    """From an empty directory to a tested handler, in each language of ``wagi new``."""
    parts = [_QUICK_START]
    for key, language in LANGUAGES.items():
        parts += [
            "",
            f"## {language.title}",
            "",
            f"Needs {language.needs}.",
            "",
            "```text",
            f"wagi new hello --lang {key}",
            "cd hello",
            *language.commands("hello"),
            "```",
        ]
    parts += [
        "",
        "## Static site",
        "",
        "Needs nothing else. [Static files](static.md) describes how files are served.",
        "",
        "```text",
        "wagi new hello --lang static",
        "cd hello",
        *STATIC_COMMANDS,
        "```",
    ]
    return "\n".join(parts) + "\n"


PAGES = {
    "reference.md": reference,
    "quickstart.md": quickstart,
    "commands.md": commands.page,
    "wagi.1": commands.manual,
    "../deploy/chart/wagi/README.md": chart.readme,
    "../deploy/chart/wagi/values.schema.json": chart.values_schema,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
