//! Prints a greeting and every variable of the request.
//!
//! rustc --target wasm32-wasip1 -O environment.rs
//! (wasm32-wasi with a compiler older than 1.78)

use std::env;

fn main() {
    println!("Content-Type: text/plain\n");
    println!("Hello, world!");
    for (key, value) in env::vars() {
        println!("{}: {}", key, value);
    }
}
