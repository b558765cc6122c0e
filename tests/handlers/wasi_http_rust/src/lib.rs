//! A handler of wasi:http that does what the first segment of the path says.

use std::fmt::Write as _;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, HeaderError, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

wasip2::http::proxy::export!(Handler);

struct Handler;

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut segments = path.trim_start_matches('/').splitn(2, '/');
        let action = segments.next().unwrap_or("");
        let rest = segments.next().unwrap_or("");
        match action {
            "hello" => send(out, 200, &[], b"hello from Rust\n"),
            "request" => send(out, 200, &[], describe(&request).as_bytes()),
            "status" => send(out, rest.parse().unwrap(), &[], b"status\n"),
            "headers" => send(
                out,
                200,
                &[("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("x-bytes", "\u{e9}")],
                b"headers\n",
            ),
            "echo" => echo(request, out),
            "large" => large(out, rest.parse().unwrap()),
            "sleep" => {
                subscribe_duration(rest.parse::<u64>().unwrap() * 1_000_000).block();
                send(out, 200, &[], b"slept\n");
            }
            "stream" => stream(out),
            "no-body" => ResponseOutparam::set(out, Ok(OutgoingResponse::new(Fields::new()))),
            "no-response" => drop(out),
            "return" => (),
            "error" => {
                let error = ErrorCode::InternalError(Some("no database".to_string()));
                ResponseOutparam::set(out, Err(error));
            }
            "unfinished" => {
                let (body, stream) = begin(out, 200, &[]);
                write(&stream, b"half");
                drop(stream);
                drop(body);
            }
            "trap" => panic!("before the response"),
            "trap-later" => {
                let (_body, stream) = begin(out, 200, &[]);
                write(&stream, b"half");
                subscribe_duration(300_000_000).block();
                panic!("after the response");
            }
            "length" => length(out, rest),
            "trailers" => trailers(out),
            "work-later" => {
                send(out, 200, &[], b"done\n");
                subscribe_duration(500_000_000).block();
                eprintln!("worked");
            }
            "header-errors" => send(out, 200, &[], header_errors(&request).as_bytes()),
            "body-errors" => body_errors(request, out),
            "environment" => {
                let mut text = String::new();
                for (name, value) in std::env::vars() {
                    writeln!(text, "{name}={value}").unwrap();
                }
                writeln!(text, "{:?}", std::env::args().collect::<Vec<_>>()).unwrap();
                eprintln!("to stderr");
                println!("to stdout");
                send(out, 200, &[], text.as_bytes());
            }
            "fetch" => fetch(request, out, query),
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => send(out, 404, &[], b"no such action\n"),
        }
    }
}

fn describe(request: &IncomingRequest) -> String {
    let mut text = format!(
        "{:?} {:?} {:?} {:?}\n",
        request.method(),
        request.path_with_query(),
        request.scheme(),
        request.authority()
    );
    let mut headers = request.headers().entries();
    headers.sort();
    for (name, value) in headers {
        writeln!(text, "{name}: {}", value.escape_ascii()).unwrap();
    }
    text
}

fn fields(headers: &[(&str, &str)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in headers {
        let bytes: Vec<u8> = value.chars().map(|letter| letter as u8).collect();
        fields.append(name, &bytes).unwrap();
    }
    fields
}

fn begin(
    out: ResponseOutparam,
    status: u16,
    headers: &[(&str, &str)],
) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(fields(headers));
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    (body, stream)
}

fn send(out: ResponseOutparam, status: u16, headers: &[(&str, &str)], content: &[u8]) {
    let (body, stream) = begin(out, status, headers);
    write(&stream, content);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn write(stream: &OutputStream, content: &[u8]) {
    for piece in content.chunks(4096) {
        stream.blocking_write_and_flush(piece).unwrap();
    }
}

/// Copies a stream by the calls that languages with asynchronous functions use.
fn copy(input: &InputStream, output: &OutputStream) {
    loop {
        input.subscribe().block();
        match input.read(65536) {
            Ok(data) => {
                let mut rest = &data[..];
                while !rest.is_empty() {
                    output.subscribe().block();
                    let room = output.check_write().unwrap() as usize;
                    let (piece, more) = rest.split_at(room.min(rest.len()));
                    output.write(piece).unwrap();
                    rest = more;
                }
            }
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    output.blocking_flush().unwrap();
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let (body, stream) = begin(out, 200, &[]);
    copy(&input, &stream);
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn large(out: ResponseOutparam, size: usize) {
    let (body, stream) = begin(out, 200, &[]);
    let piece = [b'x'; 4096];
    let mut left = size;
    while left > 0 {
        let length = left.min(piece.len());
        stream.blocking_write_and_flush(&piece[..length]).unwrap();
        left -= length;
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn stream(out: ResponseOutparam) {
    let (body, stream) = begin(out, 200, &[("content-type", "text/event-stream")]);
    for number in 0..3 {
        write(&stream, format!("data: {number}\n\n").as_bytes());
        subscribe_duration(300_000_000).block();
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Announces eight bytes and writes as many as the path says.
fn length(out: ResponseOutparam, written: &str) {
    let (body, stream) = begin(out, 200, &[("content-length", "8")]);
    let content = vec![b'x'; written.parse().unwrap()];
    let result = stream.blocking_write_and_flush(&content);
    drop(stream);
    let finished = OutgoingBody::finish(body, None);
    eprintln!("{} {:?}", result.is_ok(), finished.map_err(|error| format!("{error:?}")));
}

fn trailers(out: ResponseOutparam) {
    let (body, stream) = begin(out, 200, &[("trailer", "x-checksum")]);
    write(&stream, b"body");
    drop(stream);
    OutgoingBody::finish(body, Some(fields(&[("x-checksum", "42")]))).unwrap();
}

fn header_errors(request: &IncomingRequest) -> String {
    let mut text = String::new();
    let mut note = |what: &str, result: Result<(), HeaderError>| {
        writeln!(text, "{what}: {result:?}").unwrap();
    };
    let fields = Fields::new();
    note("append", fields.append("X-Name", b"value"));
    note("append again", fields.append("x-name", b"other"));
    note("forbidden", fields.append("Transfer-Encoding", b"chunked"));
    note("forbidden host", fields.set("host", &[b"a".to_vec()]));
    for name in [
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "upgrade", "http2-settings", "te", "trailer", "expect",
        "content-length", "date", "server", "proxy",
    ] {
        note(name, fields.append(name, b"x"));
    }
    note("no name", fields.append("", b"value"));
    note("bad name", fields.append("a b", b"value"));
    note("line end", fields.append("a", b"b\r\nc: d"));
    note("NUL", fields.append("a", b"\0"));
    note("bytes", fields.append("bytes", b"\xff\x80"));
    note("delete nothing", fields.delete("nothing"));
    note("delete bad name", fields.delete("a b"));
    note("set none", fields.set("set", &[]));
    note("set", fields.set("set", &[b"1".to_vec(), b"2".to_vec()]));
    note("immutable append", request.headers().append("a", b"b"));
    note("immutable set", request.headers().set("a", &[b"b".to_vec()]));
    note("immutable delete", request.headers().delete("a"));
    let copy = request.headers().clone();
    note("clone", copy.append("a", b"b"));
    let bad = Fields::from_list(&[("a b".to_string(), b"c".to_vec())]);
    note("list", bad.map(drop));
    let forbidden = Fields::from_list(&[("connection".to_string(), b"c".to_vec())]);
    note("forbidden list", forbidden.map(drop));
    let response = OutgoingResponse::new(fields);
    note("of a response", response.headers().append("a", b"b"));
    let kept = response.headers();
    writeln!(text, "get: {:?}", kept.get("X-NAME")).unwrap();
    writeln!(text, "get nothing: {:?}", kept.get("nothing")).unwrap();
    writeln!(text, "get bad name: {:?}", kept.get("a b")).unwrap();
    writeln!(text, "has: {} {}", kept.has("X-Name"), kept.has("y")).unwrap();
    writeln!(text, "values: {:?}", kept.get("set")).unwrap();
    for status in [0, 99, 100, 200, 599, 999, 1000] {
        writeln!(text, "status {status}: {:?}", response.set_status_code(status)).unwrap();
    }
    writeln!(text, "kept status: {}", response.status_code()).unwrap();
    let options = RequestOptions::new();
    writeln!(text, "options: {:?}", options.first_byte_timeout()).unwrap();
    options.set_first_byte_timeout(Some(7)).unwrap();
    options.set_connect_timeout(Some(8)).unwrap();
    options.set_between_bytes_timeout(None).unwrap();
    writeln!(
        text,
        "options: {:?} {:?} {:?}",
        options.first_byte_timeout(),
        options.connect_timeout(),
        options.between_bytes_timeout()
    )
    .unwrap();
    let outgoing = OutgoingRequest::new(Fields::new());
    writeln!(
        text,
        "request: {:?} {:?} {:?} {:?}",
        outgoing.method(),
        outgoing.path_with_query(),
        outgoing.scheme(),
        outgoing.authority()
    )
    .unwrap();
    for method in ["PURGE", "get", "a b", ""] {
        let result = outgoing.set_method(&Method::Other(method.to_string()));
        writeln!(text, "method {method:?}: {result:?}").unwrap();
    }
    for path in ["/a?b", "", "a b", "relative"] {
        writeln!(text, "path {path:?}: {:?}", outgoing.set_path_with_query(Some(path))).unwrap();
    }
    for scheme in ["ftp", "a b"] {
        let result = outgoing.set_scheme(Some(&Scheme::Other(scheme.to_string())));
        writeln!(text, "scheme {scheme:?}: {result:?}").unwrap();
    }
    for authority in ["a.example:80", "a b", "user@host", ""] {
        let result = outgoing.set_authority(Some(authority));
        writeln!(text, "authority {authority:?}: {result:?}").unwrap();
    }
    text
}

/// Calls the functions of bodies that may be called once a second time.
fn body_errors(request: IncomingRequest, out: ResponseOutparam) {
    let mut text = String::new();
    let incoming = request.consume().unwrap();
    writeln!(text, "consume: {:?}", request.consume().is_ok()).unwrap();
    let input = incoming.stream().unwrap();
    writeln!(text, "stream: {:?}", incoming.stream().is_ok()).unwrap();
    let read = input.blocking_read(100);
    writeln!(text, "read: {read:?}").unwrap();
    writeln!(text, "read: {:?}", input.blocking_read(100)).unwrap();
    drop(input);
    let future = wasip2::http::types::IncomingBody::finish(incoming);
    future.subscribe().block();
    let found = future.get();
    writeln!(text, "trailers: {}", matches!(found, Some(Ok(Ok(None))))).unwrap();
    writeln!(text, "again: {}", matches!(future.get(), Some(Err(())))).unwrap();
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    writeln!(text, "body: {}", response.body().is_ok()).unwrap();
    let stream = body.write().unwrap();
    writeln!(text, "write: {}", body.write().is_ok()).unwrap();
    ResponseOutparam::set(out, Ok(response));
    write(&stream, text.as_bytes());
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Sends the request on to the authority in the query, and the response back.
fn fetch(request: IncomingRequest, out: ResponseOutparam, authority: &str) {
    let (authority, path) = authority.split_once('/').unwrap_or((authority, ""));
    match forward(request, authority, path) {
        Ok(response) => {
            let status = response.status();
            let seen = response.headers().get("x-upstream").concat();
            let seen = String::from_utf8_lossy(&seen).into_owned();
            let incoming = response.consume().unwrap();
            let input = incoming.stream().unwrap();
            let (body, stream) = begin(out, status, &[("x-upstream", &seen)]);
            copy(&input, &stream);
            drop(stream);
            OutgoingBody::finish(body, None).unwrap();
        }
        Err(error) => send(out, 599, &[], format!("{error:?}\n").as_bytes()),
    }
}

fn forward(
    request: IncomingRequest,
    authority: &str,
    path: &str,
) -> Result<IncomingResponse, ErrorCode> {
    let outgoing = OutgoingRequest::new(fields(&[("x-from", "wasi:http")]));
    outgoing.set_method(&request.method()).unwrap();
    outgoing.set_scheme(Some(&Scheme::Http)).unwrap();
    outgoing.set_authority(Some(authority)).unwrap();
    outgoing.set_path_with_query(Some(&format!("/{path}"))).unwrap();
    let body = outgoing.body().unwrap();
    let stream = body.write().unwrap();
    let future = outgoing_handler::handle(outgoing, None)?;
    if !matches!(request.method(), Method::Get | Method::Head) {
        let incoming = request.consume().unwrap();
        let input = incoming.stream().unwrap();
        copy(&input, &stream);
    }
    drop(stream);
    OutgoingBody::finish(body, None)?;
    future.subscribe().block();
    future.get().unwrap().unwrap()
}
