"""A server process: its sockets, and its life from start to end."""
