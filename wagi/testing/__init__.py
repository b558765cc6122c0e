"""Tests of handlers: a client for Python, recorded cases for everybody, a plugin for pytest."""
