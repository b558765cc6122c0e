"""wasi:http: the request that a handler gets, and the response that it sets. Pure.

This package is to handlers of wasi:http what ``wagi.cgi`` is to CGI programs.
"""
