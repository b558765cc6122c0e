// A handler that finds its way by PATH_INFO, with nothing but the standard library.
use std::env;
use std::io::{self, Read};

fn main() -> io::Result<()> {
    let root = variable("SCRIPT_NAME");
    let root = root.trim_end_matches('/');
    let path = variable("PATH_INFO");
    match path.trim_end_matches('/') {
        "" if variable("REQUEST_METHOD") == "POST" => {
            let length: u64 = variable("CONTENT_LENGTH").parse().unwrap_or(0);
            let mut body = String::new();
            io::stdin().take(length).read_to_string(&mut body)?;
            text("200 OK", &format!("Hello, {}!", field(&body, "name")));
        }
        "" => {
            let url = variable("X_FULL_URL");
            let scheme = variable("REQUEST_SCHEME");
            let link = format!("{scheme}://{}{root}/hello", variable("HTTP_HOST"));
            println!("Content-Type: application/json\n");
            println!("{{\"url\": \"{url}\", \"link\": \"{link}\"}}");
        }
        "/hello" => {
            let query = variable("QUERY_STRING");
            text("200 OK", &format!("Hello, {}!", field(&query, "name")));
        }
        "/old" => println!("Location: {root}/hello?name=moved\n"),
        other => text("404 Not Found", &format!("there is no {other}")),
    }
    Ok(())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn field<'a>(form: &'a str, name: &str) -> &'a str {
    let pairs = form.split('&').filter_map(|item| item.split_once('='));
    pairs.filter(|pair| pair.0 == name).map(|pair| pair.1).next().unwrap_or("")
}

fn text(status: &str, body: &str) {
    print!("Status: {status}\nContent-Type: text/plain\n\n{body}");
}
