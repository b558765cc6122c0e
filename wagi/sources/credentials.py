"""Credentials for registries, as ``docker login``, ``oras login`` and ``az acr login`` leave them.

The configuration of Docker's command line (config.json) has them, or names a program that does:
``docker-credential-NAME``, which is asked through its stdin.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wagi.sources.ends import SourceError

_HELPER_TIMEOUT = 30.0  # seconds
_TOKEN_USER = "<token>"  # a helper's sign that the secret is an identity token
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credential:
    """Who is asking: a user with a password, or the holder of an identity token."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


async def find_credential(registry: str) -> Credential | None:
    """The credential for a registry (HOST[:PORT]); None if there is none.

    Raises: SourceError if the configuration or a helper program cannot be used.
    """
    path = _configuration_path()
    configuration = _read(path)
    helper = _mapping(configuration, "credHelpers", path).get(registry)
    helper = helper or configuration.get("credsStore")
    if helper:
        found = await _ask(str(helper), _key(registry))
        if found is not None:
            return found
    for key, entry in _mapping(configuration, "auths", path).items():
        if _registry_of(key) == registry and isinstance(entry, dict):
            return _from_entry(entry, key, path)
    return None


def _configuration_path() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise SourceError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path}: expected a JSON object")
    return content


def _mapping(configuration: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = configuration.get(key) or {}
    if not isinstance(value, dict):
        raise SourceError(f"{path}: {key}: expected an object")
    return value


def _key(registry: str) -> str:
    return _DOCKER_HUB_KEY if registry == "docker.io" else registry


def _registry_of(key: str) -> str:
    """The registry that a key of ``auths`` means: some tools write a URL."""
    name = re.sub(r"^https?://", "", key).split("/")[0]
    return "docker.io" if name in ("index.docker.io", "registry-1.docker.io") else name


def _from_entry(entry: dict[str, Any], key: str, path: Path) -> Credential | None:
    if token := entry.get("identitytoken"):
        return Credential(identity_token=str(token))
    user, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
        except ValueError:
            raise SourceError(
                f"{path}: auths.{key}.auth: expected base64 of USER:PASSWORD"
            ) from None
    return Credential(str(user), str(password or "")) if user else None


async def _ask(helper: str, key: str) -> Credential | None:
    program = f"docker-credential-{helper}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise SourceError(
            f"{_configuration_path()}: {helper!r} is not the name of a helper program"
        )
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise SourceError(
            f"{program}, which {_configuration_path()} names, cannot be run: {error.strerror}"
        ) from None
    try:
        async with asyncio.timeout(_HELPER_TIMEOUT):
            output, errors = await process.communicate(key.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SourceError(f"{program} does not answer in {_HELPER_TIMEOUT:g} seconds") from None
    if process.returncode:
        # By the protocol this sentence, on stdout, is how a helper says that it has none.
        if b"credentials not found" in output + errors:
            return None
        message = (output + errors).decode(errors="replace").strip()
        raise SourceError(f"{program} failed: {message or f'status {process.returncode}'}")
    try:
        answer = json.loads(output)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise SourceError(f"{program}: expected JSON with Username and Secret") from None
    if user == _TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(user, secret)
