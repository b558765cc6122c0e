"""Server options: flags and variables derived from fields, and the exceptions."""

from __future__ import annotations

import pytest

from wagi.config.settings import Settings, Topic

EXCEPTIONS = {
    "listen": (("-l", "--listen"), "WAGI_LISTEN"),
    "hostname": (("--hostname", "--default-host"), "WAGI_HOSTNAME"),
    "env": (("-e", "--env"), None),
    "env_file": (("--env-file",), None),
    "bindle": (("-b", "--bindle"), "WAGI_BINDLE"),
    "bindle_url": (("--bindle-url",), "BINDLE_URL"),
    "bindle_http_user": (("--bindle-http-user",), "BINDLE_HTTP_USER"),
    "bindle_http_password": (("--bindle-http-password",), "BINDLE_HTTP_PASSWORD"),
    "bindle_insecure": (("-k", "--bindle-insecure"), "WAGI_BINDLE_INSECURE"),
}
"""Names of the original Wagi."""


@pytest.mark.parametrize("name", Settings.model_fields)
def test_flags_and_variables(name: str) -> None:
    derived = (f"--{name.replace('_', '-')}",), f"WAGI_{name.upper()}"
    option = Settings.option(name)
    assert (option.flags, option.variable) == EXCEPTIONS.get(name, derived)
    assert option.help.endswith(".")


def test_options_without_a_value() -> None:
    switches = {name for name in Settings.model_fields if not Settings.option(name).metavar}
    assert switches == {"bindle_insecure", "reload_on_change", "watch", "dev"}


def test_repeatable_options() -> None:
    names = {name for name in Settings.model_fields if Settings.option(name).is_repeatable}
    assert names == {"env", "env_file", "insecure_registry", "trusted_proxy"}


@pytest.mark.parametrize("topic", Topic)
def test_every_topic_has_options(topic: Topic) -> None:
    assert topic in {Settings.option(name).topic for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("listen", "127.0.0.1:3000"),
        ("spool_limit", "64MiB"),
        ("min_body_rate", "240"),
        ("max_connections", "10000"),
        ("keep_alive", "75"),
        ("workers", "auto"),
        ("env", ""),
        ("watch", ""),
        ("tls_cert", ""),
    ],
)
def test_defaults_are_shown_as_a_user_types_them(name: str, default: str) -> None:
    assert Settings.option(name).default == default
