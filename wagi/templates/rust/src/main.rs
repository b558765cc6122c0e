use std::env;
use std::io::{self, Write};

fn main() -> io::Result<()> {
    let path = env::var("PATH_INFO").unwrap_or_default();
    let query = env::var("QUERY_STRING").unwrap_or_default();
    let mut out = io::stdout().lock();
    write!(out, "Content-Type: text/plain\n\n")?;
    if path == "/echo" {
        io::copy(&mut io::stdin().lock(), &mut out)?;
        return Ok(());
    }
    let name = query
        .split('&')
        .find_map(|item| item.strip_prefix("name="))
        .unwrap_or("world");
    writeln!(out, "Hello, {name}!")
}
