"""The HTTP/1.1 server: parses requests from a connection and writes responses to it.

::

    bytes  ──▶ connection ──▶ parser ──▶ request (head, body stream) ──▶ gateway.cycle
                   ▲                                                          │
    bytes  ◀───────┴──────────────────── response ◀──────────────────────────┘

``server`` manages the connections of a worker, ``forwarded`` determines the client behind trusted
proxies, and ``errors`` defines the exception that becomes an error page. Only ``parser`` depends on
aiohttp.
"""
