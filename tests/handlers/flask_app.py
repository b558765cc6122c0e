"""A Flask application, run by the CGI handler of the standard library."""

from wsgiref.handlers import CGIHandler

from flask import Flask, Response, jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

app = Flask(__name__)


# Behind a route without /..., PATH_INFO is empty, which in strict mode is not the path "/".
@app.get("/", strict_slashes=False)
def index() -> Response:
    return jsonify(url=request.url, link=url_for("hello", _external=True))


@app.post("/", strict_slashes=False)
def greet() -> str:
    return f"Hello, {request.form['name']}!"


@app.get("/hello")
def hello() -> str:
    return f"Hello, {request.args['name']}!"


@app.get("/old")
def old() -> BaseResponse:
    return redirect(url_for("hello", name="moved"))


@app.get("/tree/")
@app.get("/tree/<path:leaf>")
def tree(leaf: str = "") -> str:
    return f"{leaf} of the tree"


CGIHandler().run(app)
