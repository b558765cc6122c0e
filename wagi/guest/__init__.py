"""Running guests: WASI modules as coroutines of the thread that polls them.

Nothing here knows HTTP, routes or the configuration.
"""
