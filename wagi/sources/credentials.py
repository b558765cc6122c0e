"""Credentials for registries, as stored by ``docker login``, ``oras login`` and ``az acr login``.

They are in the configuration of Docker's command line (config.json), or in a store that it names
and that is accessed through a helper program, ``docker-credential-NAME``.
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

from wagi.sources.errors import SourceError

_HELPER_TIMEOUT_S = 30.0  # seconds
_TOKEN_USER = "<token>"  # user name with which a helper marks an identity token
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or an identity token."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of the Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


async def find_credential(registry: str, folder: Path | None = None) -> Credential | None:
    """Find the credential for a registry.

    Args:
        registry: The registry, as HOST[:PORT].
        folder: Directory of further configuration files (*.json), which are searched in the order
            of their names after Docker's own.

    Returns:
        The credential; None if no configuration has one for it.

    Raises:
        SourceError: The configuration is invalid, or a helper program fails.
    """
    for path in _configuration_paths(folder):
        if (found := await _find_in(path, registry)) is not None:
            return found
    return None


async def _find_in(path: Path, registry: str) -> Credential | None:
    configuration = _read(path)
    helper = _mapping(configuration, "credHelpers", path).get(registry)
    helper = helper or configuration.get("credsStore")
    if helper:
        found = await _ask(str(helper), _key(registry), path)
        if found is not None:
            return found
    for key, entry in _mapping(configuration, "auths", path).items():
        if _registry_of(key) == registry and isinstance(entry, dict):
            return _from_entry(entry, key, path)
    return None


def _configuration_paths(folder: Path | None) -> list[Path]:
    own = _configuration_path()
    return [*([own] if own else ()), *(sorted(folder.glob("*.json")) if folder else ())]


def _configuration_path() -> Path | None:
    """The path of Docker's configuration; None for a user without a home directory."""
    folder = os.environ.get("DOCKER_CONFIG")
    try:
        return (Path(folder) if folder else Path("~/.docker").expanduser()) / "config.json"
    except RuntimeError:
        return None


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
    """Convert a key of ``auths`` to the name of a registry: some tools write URLs."""
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


async def _ask(helper: str, key: str, path: Path) -> Credential | None:
    program = f"docker-credential-{helper}"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise SourceError(f"{path}: {helper!r} is not a valid name of a credential helper")
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise SourceError(f"cannot run {program}, configured in {path}: {error.strerror}") from None
    try:
        async with asyncio.timeout(_HELPER_TIMEOUT_S):
            output, errors = await process.communicate(key.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SourceError(f"{program} did not answer within {_HELPER_TIMEOUT_S:g} s") from None
    if process.returncode:
        # This message on stdout is how the protocol reports a missing credential.
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
