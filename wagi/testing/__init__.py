"""Test handlers: a client for Python, recorded cases for any language, and a pytest plugin."""
