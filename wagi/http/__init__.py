"""HTTP/1.1: from the bytes of a connection to a request, and from a response to bytes.

::

    bytes  ──▶ connection ──▶ parser ──▶ request (head, body stream) ──▶ gateway.cycle
                   ▲                                                          │
    bytes  ◀───────┴──────────────────── response ◀──────────────────────────┘

``server`` has the connections of a worker, ``forwarded`` finds the client behind trusted proxies,
``errors`` has the exception that becomes an error page. Only ``parser`` touches aiohttp.
"""
