"""Static files: directories that are served without a guest.

============= =======================================================================
site          ``Site``: a directory and how it is served, as configured
configuration entry of a route map → site, with checks of the directory
paths         path of a request → names of the file, or why there cannot be one
folder        opens files, never outside of the directory
negotiation   Accept-Encoding → the compressed variants to look for
media_types   extension → Content-Type
entity_tags   content → ETag, with a cache
conditions    If-Match, If-None-Match, …, Range → 200, 206, 304, 412 or 416
transfer      sends the bytes of a file, as fast as the client reads
response      the response with a file
responder     answers a request: finds the file, then sends it
============= =======================================================================
"""
