"""``wagi serve --watch`` and ``--dev``: reload on change, and a page that shows each request."""
