"""Answers requests with the files of a directory.

No guest is started, and a small file is sent without a task.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

from wagi.cgi.environment import BadRequest
from wagi.http.errors import RETRY_SOON, HTTPError
from wagi.http.request import Request, Target
from wagi.observe.exchange import Exchange
from wagi.observe.text import one_line
from wagi.static.conditions import relevant_fields
from wagi.static.entity_tags import EntityTags
from wagi.static.folder import Folder, Found, NoFileError
from wagi.static.negotiation import CODINGS, Coding, preferred_codings
from wagi.static.paths import FilePath, folder_location, parse_path
from wagi.static.response import FileResponse, Selected
from wagi.static.site import Site

_BUSY = frozenset((errno.EMFILE, errno.ENFILE))
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM))
_log = logging.getLogger("wagi")


class StaticResponder:
    """Answers requests with the files of a directory.

    Args:
        site: The directory and how it is served.
        tags: Calculates entity tags; several responders may share it.

    Attributes:
        site: The directory and how it is served.
    """

    def __init__(self, site: Site, tags: EntityTags) -> None:
        self.site = site
        self._tags = tags

    async def answer(
        self, request: Request, target: Target, path_info: str, exchange: Exchange
    ) -> None:
        """Answer a request. It has to be run by ``http.tasks.start``.

        Args:
            request: The request.
            target: Its parsed target.
            path_info: The part of the path below the route, as sent.
            exchange: The record of the request, which is completed.

        Raises:
            HTTPError: The request is answered with an error page.
            ConnectionError: The client has disconnected.
        """
        if request.head.method not in ("GET", "HEAD"):
            raise HTTPError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "Static files are available by GET and HEAD only.",
                headers=(("Allow", "GET, HEAD"),),
            )
        try:
            path = parse_path(path_info)
        except BadRequest as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from None
        fields = relevant_fields(request.head.raw_headers)
        response = FileResponse(request, fields, self.site, self._tags, exchange)
        with self._http_errors(path):
            selected = self._select(path, fields)
        if selected is None:
            response.redirect(folder_location(target.path, target.query))
            return
        try:
            with self._http_errors(path):
                await response.prepare(selected)
            await response.send(selected.descriptor)
        finally:
            os.close(selected.descriptor)

    async def close(self) -> None:
        """Stop calculating entity tags."""
        await self._tags.close()

    def _select(self, path: FilePath, fields: Mapping[str, str]) -> Selected | None:
        """Open the file that answers a request with some header fields.

        Returns:
            The file; None for a redirect to the same path with a slash.

        Raises:
            NoFileError: There is no file to send, not even a page for this case.
            OSError: A file cannot be opened.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(Folder(self.site.folder))
            status, name = HTTPStatus.OK, self._index(path) if path.is_folder else path.text
            try:
                found = _find(folder, path, name, stack)
                if found.is_folder:
                    stack.enter_context(folder.find(self._index(path)))
                    return None
            except NoFileError:
                status, name = self._substitute(path)
                found = stack.enter_context(folder.find(name))
                if not found.is_file:
                    raise
            variants = [coding for coding in CODINGS if folder.has(name + coding.extension)]
            coding, found = _prefer(folder, name, found, variants, fields, stack)
            return Selected(found.open(), found.status, name, status, coding, bool(variants))

    def _substitute(self, path: FilePath) -> tuple[HTTPStatus, str]:
        """Return what is sent for a path without a file. Raises: NoFileError for an error page."""
        if self.site.fallback is not None and not path.is_hidden:
            return HTTPStatus.OK, self.site.fallback
        if self.site.not_found is not None:
            return HTTPStatus.NOT_FOUND, self.site.not_found
        raise NoFileError

    def _index(self, path: FilePath) -> str:
        return f"{path.text}/{self.site.index}" if path.text else self.site.index

    @contextmanager
    def _http_errors(self, path: FilePath) -> Iterator[None]:
        """Turn errors of the file system into error responses."""
        try:
            yield
        except NoFileError:
            raise HTTPError(HTTPStatus.NOT_FOUND, "No such file.") from None
        except OSError as error:
            reason = one_line(f"cannot read {self.site.name}/{path.text}: {error.strerror}")
            if error.errno in _FORBIDDEN:
                _log.warning("%s", reason)
                raise HTTPError(HTTPStatus.FORBIDDEN, "Permission denied.", reason) from None
            if error.errno in _BUSY:
                status, message = HTTPStatus.SERVICE_UNAVAILABLE, "Too many files are open."
                raise HTTPError(status, message, reason, RETRY_SOON) from None
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise HTTPError(status, "The file cannot be read.", reason) from None


def _find(folder: Folder, path: FilePath, name: str, stack: ExitStack) -> Found:
    """Find the file of a path, or the directory of one that lacks a slash."""
    if path.is_hidden or path.has_empty_name:
        raise NoFileError("a name is empty or hidden")
    found = stack.enter_context(folder.find(name))
    if not found.is_file and (path.is_folder or not found.is_folder):
        raise NoFileError("not a regular file")
    return found


def _prefer(
    folder: Folder,
    name: str,
    found: Found,
    variants: Sequence[Coding],
    fields: Mapping[str, str],
    stack: ExitStack,
) -> tuple[Coding | None, Found]:
    """Return the compressed variant of a file that a client prefers, or the file itself."""
    if variants:
        for coding in preferred_codings(fields.get("accept-encoding", "")):
            if coding in variants:
                with suppress(NoFileError):  # it leads out of the directory
                    variant = stack.enter_context(folder.find(name + coding.extension))
                    if variant.is_file:
                        return coding, variant
    return None, found
