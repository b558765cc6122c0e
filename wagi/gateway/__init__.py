"""The gateway: requests in, guests run, responses out. ``cycle`` is the journey of one request."""
