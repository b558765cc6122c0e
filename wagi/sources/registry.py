"""A client for OCI registries (OCI distribution specification 1.1): pull and push.

Credentials from Docker's configuration are sent only after the registry has asked for them.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp

from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.credentials import Credential, find_credential
from wagi.sources.downloader import ATTEMPTS, Digest, Downloader
from wagi.sources.errors import FetchError, SourceError, UnreachableError
from wagi.sources.images import ACCEPT, MANIFEST, Descriptor, Image
from wagi.sources.module_request import FetchOptions
from wagi.sources.references import LOOPBACK, ImageReference, origin_of

_HOSTS = {"docker.io": "registry-1.docker.io"}
_CLIENT = "wagi"
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Action = Literal["pull", "pull,push"]


class Registry:
    """A client for one registry."""

    def __init__(self, name: str, downloader: Downloader, options: FetchOptions) -> None:
        """Create a client.

        Args:
            name: The registry, as HOST[:PORT].
            downloader: Sends the requests.
            options: The operator's options.
        """
        self.name = name
        plain = name in options.insecure_registries or LOOPBACK.fullmatch(name)
        self._url = f"{'http' if plain else 'https'}://{_HOSTS.get(name, name)}/v2/"
        self._downloader = downloader
        self._config = options.registry_config
        self._authorizations: dict[tuple[str, Action], str] = {}
        self._credential: Credential | None = None
        self._has_looked_up = False
        self._lock = asyncio.Lock()

    async def manifest(self, image: ImageReference) -> bytes:
        """Fetch the manifest of a tag or a digest; a digest is verified.

        Raises:
            SourceError: There is no such image, or access is denied.
            FetchError: The digest does not match, or the registry fails or cannot be reached.
        """
        path = f"{image.repository}/manifests/{image.digest or image.tag}"
        async with await self._open("GET", image, path, {"Accept": ACCEPT}) as response:
            content = await self._downloader.read(response)
        found = digest_of(content)
        promised = image.digest or response.headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha256:") and promised != found:
            raise FetchError(f"digest mismatch of the manifest: expected {promised}, found {found}")
        return content

    async def download(self, image: ImageReference, layer: Descriptor, cache: ModuleCache) -> None:
        """Download a layer to the cache.

        Raises:
            FetchError: The layer is missing or damaged, or the registry cannot be reached.
        """

        async def open_(headers: Mapping[str, str]) -> aiohttp.ClientResponse:
            path = f"{image.repository}/blobs/{layer.digest}"
            return await self._open("GET", image, path, headers)

        await self._downloader.download(str(image), open_, Digest(layer.digest, layer.size), cache)

    async def push(self, target: ImageReference, image: Image) -> None:
        """Push an image under a tag.

        Raises:
            SourceError: Access is denied.
            FetchError: The registry fails or cannot be reached.
        """
        for digest, content in image.contents.items():
            await self._push_blob(target, digest, content)
        path = f"{target.repository}/manifests/{target.tag}"
        headers = {"Content-Type": MANIFEST}
        response = await self._open("PUT", target, path, headers, image.manifest, "pull,push")
        response.release()

    async def _push_blob(self, target: ImageReference, digest: str, content: bytes) -> None:
        blobs = f"{target.repository}/blobs/"
        for is_last in (False, False, True):
            there = await self._send("HEAD", target, blobs + digest, {}, None, "pull,push")
            there.release()
            if there.status == 200:
                return
            begun = await self._open("POST", target, f"{blobs}uploads/", {}, b"", "pull,push")
            begun.release()
            location = urljoin(str(begun.url), begun.headers.get("Location", ""))
            url = f"{location}{'&' if urlsplit(location).query else '?'}digest={digest}"
            headers = {"Content-Type": "application/octet-stream"}
            try:
                # Sending again would append to an interrupted upload: start a new one instead.
                done = await self._open("PUT", target, url, headers, content, "pull,push", 1)
            except UnreachableError:
                if is_last:
                    raise
                continue
            done.release()
            return

    async def _open(
        self,
        method: str,
        image: ImageReference,
        path: str,
        headers: Mapping[str, str],
        data: bytes | None = None,
        action: Action = "pull",
        attempts: int = ATTEMPTS,
    ) -> aiohttp.ClientResponse:
        """Send a request, and raise an error unless it succeeds.

        Raises:
            SourceError: There is no such image, or access is denied.
            FetchError: The registry fails or cannot be reached.
        """
        response = await self._send(method, image, path, headers, data, action, attempts)
        if response.status < 400:
            return response
        async with response:
            raise await self._error_for(image, response, action)

    async def _send(
        self,
        method: str,
        image: ImageReference,
        path: str,
        headers: Mapping[str, str],
        data: bytes | None,
        action: Action,
        attempts: int = ATTEMPTS,
    ) -> aiohttp.ClientResponse:
        """Send a request, with a credential once the registry has asked for one.

        Args:
            method: The HTTP method.
            image: The image that the request is for.
            path: The path below /v2/, or the URL of an upload.
            headers: The request headers.
            data: The body, if any.
            action: The access that is needed.
            attempts: Maximum number of attempts.
        """
        url = urljoin(self._url, path)
        ours = origin_of(url) == origin_of(self._url)
        scope = image.repository, action
        refused = ""
        while True:
            known = self._authorizations.get(scope, "") if ours else ""
            sent = {**headers, "Authorization": known} if known else headers
            response = await self._downloader.open(method, url, sent, data, attempts=attempts)
            if response.status != 401 or not ours or (known and known == refused):
                return response
            async with self._lock:  # of several unauthorized requests, only one fetches a token
                if self._authorizations.get(scope, "") == known:
                    challenges = response.headers.getall("WWW-Authenticate", ())
                    answer = await self._answer(image, max(challenges, key=_rank, default=""))
                    if not answer:
                        return response
                    self._authorizations[scope] = answer
            refused = self._authorizations[scope]
            response.release()

    async def _answer(self, image: ImageReference, challenge: str) -> str:
        """Respond to a challenge (RFC 9110 §11.6.1).

        Returns:
            The value of the Authorization header; empty if there is no credential.
        """
        scheme = _scheme(challenge)
        credential = await self._find_credential()
        if scheme == "basic":
            return credential.basic if credential and credential.user else ""
        if scheme != "bearer":
            return ""
        parameters = dict(_PARAMETER.findall(challenge))
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme != "https" and not self._url.startswith("http:"):
            raise FetchError(
                f"{self.name} requests a token from {realm!r}, which is not https:, so that a"
                " credential would be sent in the clear"
            )
        query = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        return f"Bearer {await self._token(image, realm, query, credential)}"

    async def _token(
        self,
        image: ImageReference,
        realm: str,
        query: dict[str, str],
        credential: Credential | None,
    ) -> str:
        """Fetch a token from a token server (Docker registry v2 authentication)."""
        if credential and credential.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": credential.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            data = urlencode(form).encode()
            response = await self._downloader.open("POST", realm, headers, data)
        else:
            headers = {"Authorization": credential.basic} if credential else {}
            url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
            response = await self._downloader.open("GET", url, headers)
        async with response:
            if response.status in (400, 401, 403):
                raise self._denied(image, f"{origin_of(realm)} denied a token", "pull")
            content = await self._downloader.read(response)
        try:
            answer = json.loads(content)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if response.status != 200 or not isinstance(token, str) or not token.isprintable():
            raise FetchError(
                f"{origin_of(realm)} responded with {response.status}, without a token"
            )
        return token

    async def _find_credential(self) -> Credential | None:
        if not self._has_looked_up:
            self._credential = await find_credential(self.name, self._config)
            self._has_looked_up = True
        return self._credential

    async def _error_for(
        self, image: ImageReference, response: aiohttp.ClientResponse, action: Action
    ) -> SourceError | FetchError:
        detail = _message(await self._downloader.read(response))
        match response.status:
            case 401 | 403:
                return self._denied(
                    image, f"{self.name} responded with {response.status}{detail}", action
                )
            case 404 if action == "pull":
                return SourceError(f"{self.name} has no such image{detail}")
        return FetchError(f"{self.name} responded with {response.status}{detail}")

    def _denied(self, image: ImageReference, what: str, action: Action) -> SourceError:
        if self._credential is None:
            how = f"no credential found: log in with docker login {self.name}"
        else:
            user = self._credential.user
            who = f"the password of {user!r}" if user else "the identity token"
            verb = "push to" if action == "pull,push" else "pull from"
            how = f"check {who}, and its permission to {verb} {image.repository}"
        return SourceError(f"{what}: {how}")


def _scheme(challenge: str) -> str:
    return challenge.partition(" ")[0].lower()


def _rank(challenge: str) -> int:
    """Rank a challenge: one for a token is preferred."""
    return {"bearer": 2, "basic": 1}.get(_scheme(challenge), 0)


def _message(body: bytes) -> str:
    """Format the error message of a registry (distribution specification, "Error Codes")."""
    try:
        errors = json.loads(body)["errors"]
        text = "; ".join(str(item.get("message") or item.get("code")) for item in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    text = "".join(letter if letter.isprintable() else " " for letter in text[:200])
    return f" ({text})" if text else ""
