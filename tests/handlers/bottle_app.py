"""A Bottle application, run by the CGI handler of the standard library."""

from urllib.parse import urljoin
from wsgiref.handlers import CGIHandler

import bottle
from bottle import request

app = bottle.Bottle()


@app.get("/")
def index() -> dict[str, str]:
    return {"url": request.url, "link": urljoin(request.url, app.get_url("hello"))}


@app.post("/")
def greet() -> str:
    return f"Hello, {request.forms.name}!"


@app.get("/hello", name="hello")
def hello() -> str:
    return f"Hello, {request.query.name}!"


@app.get("/old")
def old() -> None:
    bottle.redirect(app.get_url("hello", name="moved"))


CGIHandler().run(app)
