"""spin.toml: what is invalid, and what is not supported, is named with what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.route_maps import DIGEST, SPIN_1, SPIN_2, by_route, read_spin
from wagi.errors import ConfigurationError

pytestmark = pytest.mark.fast


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_spin(folder, text)
    assert caught.value.exit_status == 2
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


VOLUMES_HINT = "move the component to a modules.toml, whose volumes can be written to, and"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'entrypoint = "main" }',
            'entrypoint = "main", x = 1 }',
            (
                "spin.toml:21: trigger.http '/...': unknown key 'x': known keys: argv,"
                " entrypoint, type"
            ),
        ),
        (
            'type = "wagi", argv',
            'type = "wagii", argv',
            (
                "spin.toml:21: trigger.http '/...': executor.type: expected 'wagi', 'http' or"
                " 'spin', found 'wagii'"
            ),
        ),
        (
            '{ type = "wagi", argv = "prog ${ARGS}", entrypoint = "main" }',
            '"wagi"',
            "spin.toml:21: trigger.http '/...': executor: expected a table, found 'wagi'",
        ),
        (
            'route = "/..."',
            "route = 5",
            ("spin.toml:19: trigger.http: route: expected a path, or { private = true }, found 5"),
        ),
        (
            'route = "/..."',
            "route = { private = false }",
            (
                "spin.toml:19: trigger.http: route: expected a path, or { private = true },"
                " found a table"
            ),
        ),
        ('route = "/..."\n', "", "spin.toml:17: trigger.http: required key 'route' is missing"),
        (
            'route = "/..."',
            'route = "/users/:id/..."',
            (
                "spin.toml:19: component 'first': route: '/users/:id/...': a segment such as"
                " ':id' cannot match any value here: write /app/users/..., and read the rest of"
                " the path from PATH_INFO"
            ),
        ),
        (
            'route = "/..."',
            'route = "/*/x"',
            "write /app/..., and read the rest of the path from PATH_INFO",
        ),
        (
            'component = "first"\nexecutor = { type = "wagi", ',
            'component = "frist"\nexecutor = { type = "wagi", ',
            (
                "spin.toml:20: trigger.http '/...': there is no component 'frist': did you mean"
                " 'first'?"
            ),
        ),
        (
            'component = "first"\nexecutor = { type = "wagi", ',
            'component = "x"\nexecutor = { type = "wagi", ',
            (
                "spin.toml:20: trigger.http '/...': there is no component 'x': expected a table"
                " [component.x]"
            ),
        ),
        (
            'component = "first"\nexecutor = { type = "wagi", ',
            'executor = { type = "wagi", ',
            "spin.toml:17: trigger.http '/...': required key 'component' is missing",
        ),
        (
            'component = "first"\nexecutor = { type = "wagi", ',
            'static_response = { body = "x" }\nexecutor = { type = "wagi", ',
            (
                "spin.toml:20: trigger.http '/...': static_response is not supported: serve the"
                " response from a handler"
            ),
        ),
        (
            'id = "all"',
            'dependencies = { middleware = [{ component = "second" }] }',
            (
                "spin.toml:18: trigger.http '/...': dependencies is not supported: compile them"
                " into the module"
            ),
        ),
        (
            'source = "inline.wasm"',
            'source = "inline.wasm"\nfile = ["x"]',
            (
                "spin.toml:36: trigger.http '/longer/*': component: unknown key 'file': did you"
                " mean 'files'?"
            ),
        ),
        (
            'source = "target/first.wasm"',
            'sorce = "target/first.wasm"',
            "spin.toml:39: component 'first': required key 'source' is missing",
        ),
        (
            'source = "target/first.wasm"',
            'sorce = "target/first.wasm"',
            "spin.toml:40: component 'first': unknown key 'sorce': did you mean 'source'?",
        ),
        (
            'source = "target/first.wasm"',
            'source = { url = "https://a.example/x.wasm" }',
            (
                "spin.toml:40: component 'first': source: expected a path, or a table with url"
                " and digest, found a table"
            ),
        ),
        (
            'source = "target/first.wasm"',
            'source = { registry = "r.example", package = "a:b", version = "1" }',
            (
                "spin.toml:40: component 'first': unsupported key 'package': packages of"
                " registries are not supported: download the module, and write its path, or a"
                " url with its digest"
            ),
        ),
        (
            'source = "target/first.wasm"',
            'source = ""',
            "component 'first': source.path: expected a non-empty string",
        ),
        (
            f'digest = "sha256:{DIGEST}"',
            f'digest = "{DIGEST}"',
            (
                "spin.toml:62: component 'second': source.digest: expected sha256: and 64"
                f" lowercase hex digits, found '{DIGEST}'"
            ),
        ),
        (
            'url = "https://a.example/second.wasm"',
            'url = "file:///second.wasm"',
            (
                "spin.toml:61: component 'second': source.url: expected an http: or https: URL,"
                " found 'file:///second.wasm'"
            ),
        ),
        (
            "variables = {}",
            'variables = { a = "{{ b }}" }',
            (
                "spin.toml:47: component 'first': variables: variables are not supported: write"
                " the values to environment, or pass them with --env or --env-file"
            ),
        ),
        (
            "key_value_stores = []",
            'key_value_stores = ["default"]',
            (
                "spin.toml:46: component 'first': key_value_stores: key-value stores are not"
                f" supported: {VOLUMES_HINT} keep the data in files"
            ),
        ),
        (
            "key_value_stores = []",
            'sqlite_databases = ["default"]',
            (
                "spin.toml:46: component 'first': sqlite_databases: SQLite databases are not"
                f" supported: {VOLUMES_HINT} compile SQLite into the handler"
            ),
        ),
        (
            "key_value_stores = []",
            'ai_models = ["llama2-chat"]',
            (
                "spin.toml:46: component 'first': ai_models: AI models are not supported: call a"
                " server that has the model by outbound HTTP (allowed_outbound_hosts)"
            ),
        ),
        (
            "[component.first.tool.other]\n",
            '[component.first.dependencies]\n"a:b/c" = "1"\n[component.first.tool.other]\n',
            (
                "spin.toml:55: component 'first': dependencies: dependencies are not supported:"
                " compile them into the module"
            ),
        ),
        (
            'environment = { GREETING = "hi" }',
            "environment = { GREETING = 5 }",
            "spin.toml:42: component 'first': environment.GREETING: expected a string, found 5",
        ),
        (
            'environment = { GREETING = "hi" }',
            'environment = { "A=B" = "hi" }',
            (
                "spin.toml:42: component 'first': environment: expected the name of a variable,"
                " found 'A=B'"
            ),
        ),
        (
            '"images/**/*.png"',
            '"../images/*.png"',
            (
                "spin.toml:43: component 'first': files: expected a path inside the project's"
                " directory, found '../images/*.png'"
            ),
        ),
        (
            '"images/**/*.png"',
            '"/etc/*"',
            "files: expected a path inside the project's directory, found '/etc/*'",
        ),
        (
            '"images/**/*.png"',
            '"images/**.png"',
            "files: expected ** only as a whole segment of a path",
        ),
        (
            '"images/**/*.png"',
            '"."',
            (
                "spin.toml:43: component 'first': files: expected a path or pattern, found '.':"
                ' for all files of the directory, write "**/*", or a table with source and'
                " destination"
            ),
        ),
        (
            'source = "./static", destination = "/"',
            'source = "./static"',
            (
                "files: expected a path or pattern, or a table with source and destination,"
                " found a table"
            ),
        ),
        (
            'source = "./static", destination',
            'source = "../static", destination',
            (
                "spin.toml:43: component 'first': files: expected a path inside the project's"
                " directory, found '../static'"
            ),
        ),
        (
            'source = "./static", destination',
            'sorce = "./static", destination',
            "spin.toml:43: component 'first': unknown key 'sorce': did you mean 'source'?",
        ),
        (
            '["**/secret"]',
            '"**/secret"',
            (
                "spin.toml:44: component 'first': exclude_files: expected an array, found"
                " '**/secret'"
            ),
        ),
        ('"**/secret"', '"[a"', "exclude_files: expected a ] after the [ in '[a'"),
        (
            '"https://a.example", "*',
            '"a.example", "*',
            (
                "spin.toml:45: component 'first': allowed_outbound_hosts: expected SCHEME://HOST"
                " or SCHEME://HOST:PORT, found 'a.example'"
            ),
        ),
        (
            '"https://a.example", "*',
            '"https://{{ host }}", "*',
            (
                "allowed_outbound_hosts: 'https://{{ host }}': variables are not supported:"
                " write the host itself"
            ),
        ),
        (
            'workdir = "native code"',
            'workdir = "/tmp"',
            (
                "spin.toml:50: component 'first': build.workdir: expected a path inside the"
                " project's directory, found '/tmp'"
            ),
        ),
        (
            'command = "make all"',
            'comand = "make all"',
            "spin.toml:49: component 'first': unknown key 'comand': did you mean 'command'?",
        ),
        (
            'memory_limit = "1MiB"',
            'memory_limt = "1MiB"',
            (
                "spin.toml:53: component 'first': unknown key 'memory_limt': did you mean"
                " 'memory_limit'?"
            ),
        ),
        (
            'memory_limit = "1MiB"',
            'memory_limit = "many"',
            (
                "spin.toml:53: component 'first': tool.wagi.memory_limit: expected a size:"
                " bytes, or a text"
            ),
        ),
        (
            '[application]\nname = "sample"\n',
            "[application]\n",
            "spin.toml:4: required key 'application.name' is missing",
        ),
        (
            'base = "/app/"',
            'bas = "/app/"',
            "spin.toml:12: unknown key 'bas': did you mean 'base'?",
        ),
        (
            "[application.tool.wagi]",
            "[aplication]\n[application.tool.wagi]",
            "spin.toml:14: unknown key 'aplication': did you mean 'application'?",
        ),
        (
            "spin_manifest_version = 2",
            "spin_manifest_version = 3",
            (
                'spin.toml:2: expected spin_manifest_version = "1" or spin_manifest_version = 2,'
                " found spin_manifest_version = 3"
            ),
        ),
        (
            "spin_manifest_version = 2",
            'spin_manifest_version = "2"',
            'found spin_manifest_version = "2"',
        ),
        (
            "spin_manifest_version = 2",
            "spin_manifest_version = true",
            "found spin_manifest_version = true",
        ),
        (
            "spin_manifest_version = 2",
            "spin_manifest_version = [2]",
            "found spin_manifest_version = [2]",
        ),
        (
            "spin_manifest_version = 2",
            "",
            (
                'spin.toml:1: expected spin_manifest_version = "1" or spin_manifest_version = 2,'
                " found none"
            ),
        ),
        ("spin_manifest_version = 2", "spin_manifest_version =", "not valid TOML"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SPIN_2
    found = problems(tmp_path, SPIN_2.replace(old, new, 1))
    assert any(message in text for text in found), found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "redis",
            (
                "spin.toml:64: trigger 'redis': only http triggers are supported: remove it, or"
                " keep serving it with Spin"
            ),
        ),
        (
            "htpp",
            (
                "spin.toml:64: trigger 'htpp': only http triggers are supported: did you mean"
                " 'http'?"
            ),
        ),
    ],
)
def test_another_trigger(tmp_path: Path, name: str, message: str) -> None:
    text = f'{SPIN_2}\n[[trigger.{name}]]\nchannel = "x"\ncomponent = "third"\n'
    assert problems(tmp_path, f'{text}[component.third]\nsource = "x.wasm"\n') == [message]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'type = "http"',
            'type = "redis", address = "redis://localhost"',
            "spin.toml:6: trigger 'redis': only http triggers are supported: remove it",
        ),
        ('type = "http", ', "", "spin.toml:6: required key 'trigger.type' is missing"),
        (
            'id = "first"',
            'id = "second"',
            "spin.toml:23: component 'second': line 9 already has this id",
        ),
        ('id = "first"\n', "", "spin.toml:22: component: required key 'id' is missing"),
        (
            'route = "/"',
            'rout = "/"',
            "spin.toml:26: component 'first': unknown key 'rout': did you mean 'route'?",
        ),
        (
            'source = "first.wasm"',
            'source = { reference = "a/1", parcel = "0" }',
            "spin.toml:24: component 'first': unsupported key 'parcel': bindles",
        ),
        (
            'source = "first.wasm"',
            'source = "first.wasm"\nconfig = { a = "b" }',
            (
                "spin.toml:25: component 'first': config: variables are not supported: write the"
                " values to environment"
            ),
        ),
        (
            'source = "first.wasm"',
            'source = "first.wasm"\nkey_value_stores = ["default"]',
            (
                "spin.toml:25: component 'first': key_value_stores: key-value stores are not"
                " supported"
            ),
        ),
        (
            '"a.example"',
            '"a.example/x"',
            (
                "spin.toml:14: component 'second': allowed_http_hosts: expected HOST, HOST:PORT"
                " or insecure:allow-all"
            ),
        ),
        ('name = "sample"\n', "", "spin.toml:1: required key 'name' is missing"),
    ],
)
def test_what_cannot_be_in_version_1_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in SPIN_1
    found = problems(tmp_path, SPIN_1.replace(old, new, 1))
    assert any(message in text for text in found), found


def test_several_problems_are_reported_together(tmp_path: Path) -> None:
    text = SPIN_2.replace("variables = {}", 'variables = { a = "b" }')
    text = text.replace("key_value_stores = []", 'key_value_stores = ["default"]')
    found = problems(tmp_path, text.replace('"/longer/path/..."', '"/:x"'))
    assert [message.partition(": ")[0] for message in found] == [
        "spin.toml:29", "spin.toml:46", "spin.toml:47",
    ]  # fmt: skip


def test_a_feature_is_reported_once_for_all_triggers(tmp_path: Path) -> None:
    text = SPIN_2.replace("key_value_stores = []", 'key_value_stores = ["default"]')
    assert len(problems(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"/longer/path/..."',
            "{ private = true }",
            (
                "spin.toml:29: component 'second' has a private route: it is not served, because"
                " components cannot call each other here"
            ),
        ),
        (
            'GREETING = "hi"',
            'GREETING = "{{ greeting }}"',
            (
                "spin.toml:42: component 'first': environment: the handler gets the value of"
                " GREETING as it is written: templates are not expanded there, neither by Spin"
                " nor here"
            ),
        ),
        (
            "[component.second.source]",
            '[component.third]\nsource = "x.wasm"\n[component.second.source]',
            "spin.toml:60: component 'third' has no trigger: it is not served",
        ),
        (
            "[application.tool.wagi]",
            '[variables]\na = { default = "b" }\n[application.tool.wagi]',
            "spin.toml:14: variables are not supported: they have no effect",
        ),
    ],
)
def test_warnings(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SPIN_2
    (warning,) = read_spin(tmp_path, SPIN_2.replace(old, new, 1)).warnings
    assert str(warning) == f"{tmp_path}/{message}"


def test_a_private_component_is_never_served(tmp_path: Path) -> None:
    found = by_route(tmp_path, SPIN_2.replace('"/longer/path/..."', "{ private = true }"))
    assert set(found) == {"/app/first", "/app/longer/...", "/app/..."}
