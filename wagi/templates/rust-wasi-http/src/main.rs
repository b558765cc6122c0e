use wstd::http::{Body, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let response = Response::builder().header("Content-Type", "text/plain");
    if request.uri().path().ends_with("/echo") {
        return Ok(response.body(request.into_body())?);
    }
    let name = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .find_map(|item| item.strip_prefix("name="))
        .unwrap_or("world");
    Ok(response.body(format!("Hello, {name}!\n").into())?)
}
