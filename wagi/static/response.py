"""The response with a file: ``prepare`` decides everything, ``send`` sends it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from os import stat_result
from typing import NamedTuple

from wagi.http.errors import HTTPError
from wagi.http.request import Request
from wagi.http.response import format_head, send_text
from wagi.http.tasks import enter_task
from wagi.observe.exchange import Exchange
from wagi.static.conditions import (
    ByteRange,
    UnsatisfiableRangeError,
    Validators,
    check_preconditions,
    format_date,
    is_conditional,
    select_range,
)
from wagi.static.entity_tags import INLINE_MAX, PROMPT_MAX, EntityTags
from wagi.static.media_types import media_type
from wagi.static.negotiation import Coding
from wagi.static.site import Site
from wagi.static.transfer import TruncatedFileError, send_range

_ONE_WRITE_MAX = 32 * 1024  # bytes; below the high-water mark of a transport's write buffer
_log = logging.getLogger("wagi")


class Selected(NamedTuple):
    """The file that answers a request.

    Attributes:
        descriptor: The file or its compressed variant, open for reading.
        file: Its metadata.
        path: The path of the file itself below the directory.
        status: 200, or 404 for the page that reports a missing file.
        coding: The coding of the variant; None for the file itself.
        has_variants: Whether the response depends on Accept-Encoding.
    """

    descriptor: int
    file: stat_result
    path: str
    status: HTTPStatus
    coding: Coding | None
    has_variants: bool


class FileResponse:
    """The response to one request: ``prepare`` decides everything, ``send`` sends it."""

    def __init__(
        self,
        request: Request,
        fields: Mapping[str, str],
        site: Site,
        tags: EntityTags,
        exchange: Exchange,
    ) -> None:
        """Create a response.

        Args:
            request: The request to answer.
            fields: Its relevant header fields.
            site: The directory with the file.
            tags: Calculates entity tags.
            exchange: The record of the request, which is completed.
        """
        self._request = request
        self._fields = fields
        self._site = site
        self._tags = tags
        self._exchange = exchange
        self._status = HTTPStatus.OK
        self._head = b""
        self._content: bytes | None = None  # of a small file
        self._part = ByteRange(0, 0)

    def redirect(self, location: str) -> None:
        """Send a redirect to a directory."""
        self._exchange.status = HTTPStatus.MOVED_PERMANENTLY.value
        self._exchange.sent = send_text(
            self._request,
            HTTPStatus.MOVED_PERMANENTLY,
            "301 Moved Permanently\n",
            (("Location", location),),
        )

    async def prepare(self, selected: Selected) -> None:
        """Evaluate the conditions of the request, and format the head.

        Raises:
            HTTPError: 412 or 416.
            OSError: The file cannot be read.
        """
        request, fields, file = self._request, self._fields, selected.file
        size, status = file.st_size, selected.status
        is_page = status == HTTPStatus.NOT_FOUND
        etag = None
        if not is_page:
            etag = await self._entity_tag(selected, is_conditional(fields))
        validators = Validators(etag, None if is_page else _modified(file))
        self._part = ByteRange(0, size)
        headers = [("Content-Type", media_type(selected.path))]
        if not is_page:
            failed = check_preconditions(fields, validators)
            if failed == HTTPStatus.PRECONDITION_FAILED:
                raise HTTPError(failed, "The file does not match the conditions of the request.")
            if failed is not None:
                status, headers = failed, []
            elif request.head.method == "GET":
                status = self._select_range(fields, validators, size, headers)
        if status != HTTPStatus.NOT_MODIFIED:
            headers.append(("Content-Length", str(self._part.size)))
            headers.append(("X-Content-Type-Options", "nosniff"))
            if not is_page:
                headers.append(("Accept-Ranges", "bytes"))
            if selected.coding is not None:
                headers.append(("Content-Encoding", selected.coding.name))
        headers += self._metadata(selected, validators)
        self._status = status
        self._head = format_head(request, status, headers)

    def _select_range(
        self,
        fields: Mapping[str, str],
        validators: Validators,
        size: int,
        headers: list[tuple[str, str]],
    ) -> HTTPStatus:
        try:
            part = select_range(fields, validators, size)
        except UnsatisfiableRangeError:
            raise HTTPError(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "The range begins beyond the end of the file.",
                headers=(("Content-Range", f"bytes */{size}"),),
            ) from None
        if part is None:
            return HTTPStatus.OK
        self._part = part
        last = part.offset + part.size - 1
        headers.append(("Content-Range", f"bytes {part.offset}-{last}/{size}"))
        return HTTPStatus.PARTIAL_CONTENT

    def _metadata(self, selected: Selected, validators: Validators) -> list[tuple[str, str]]:
        """Return the fields that 304 responses have, too (RFC 9110 §15.4.5)."""
        headers = []
        if validators.etag is not None:
            headers.append(("ETag", validators.etag))
        if validators.modified is not None:
            headers.append(("Last-Modified", format_date(validators.modified)))
        if selected.has_variants:
            headers.append(("Vary", "Accept-Encoding"))
        cache_control = self._site.cache_control_of(selected.path)
        if cache_control is not None and selected.status == HTTPStatus.OK:
            headers.append(("Cache-Control", cache_control))
        return headers

    async def _entity_tag(self, selected: Selected, is_required: bool) -> str | None:
        """Return the entity tag of a file; None if it takes too long to calculate."""
        file, descriptor = selected.file, selected.descriptor
        digest = self._tags.cached(file)
        if digest is None and file.st_size <= INLINE_MAX:
            self._content = os.pread(descriptor, file.st_size, 0)
            digest = self._tags.of_content(file, self._content)
        elif digest is None:
            await enter_task()
            waits = is_required or file.st_size <= PROMPT_MAX
            digest = await self._tags.of_file(file, descriptor, waits)
        if digest is None:
            return None
        # Two variants with the same bytes are different representations.
        coding = "" if selected.coding is None else f"-{selected.coding.name}"
        return f'"{digest}{coding}"'

    async def send(self, descriptor: int) -> None:
        """Send the response.

        Raises:
            ConnectionError: The client has disconnected.
        """
        channel, part = self._request.channel, self._part
        self._exchange.status = self._status.value
        if self._request.head.method == "HEAD" or self._status == HTTPStatus.NOT_MODIFIED:
            channel.write(self._head)
            return
        if part.size <= _ONE_WRITE_MAX and channel.can_write:
            body = self._read(descriptor)
            self._exchange.sent = len(body)
            channel.write(self._head + body)
            if len(body) < part.size:
                self._abort(TruncatedFileError("the file was truncated while it was sent"))
            return
        channel.write(self._head)
        self._content = None  # a slow client must not keep it in memory
        await enter_task()
        try:
            await send_range(self._request, descriptor, part, self._on_sent)
        except ConnectionError:
            raise
        except Exception as error:  # an error page must not follow the head
            self._abort(error)

    def _read(self, descriptor: int) -> bytes:
        offset, count = self._part
        if self._content is not None:
            return self._content[offset : offset + count]
        try:
            return os.pread(descriptor, count, offset)
        except OSError:
            return b""

    def _on_sent(self, count: int) -> None:
        self._exchange.sent += count

    def _abort(self, error: Exception) -> None:
        """Break the connection: the response cannot be completed."""
        exchange, name = self._exchange, self._site.name
        _log.error(
            "[%s] %s, static files %s: %s", exchange.request_id, exchange.target, name, error
        )
        self._request.channel.abort_response(has_framing=True)


def _modified(status: stat_result) -> int | None:
    """Return the modification time in seconds; None for one in the future or of the epoch.

    Reproducible images have the latter. RFC 9110 §8.8.2.1 forbids to send the former.
    """
    seconds = int(status.st_mtime)
    return seconds if 1 < seconds <= time.time() else None
