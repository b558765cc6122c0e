//! Prints a greeting and every variable of the request.
//!
//! rustc --target wasm32-wasip1 -O environment.rs
//! (before Rust 1.78, the target is called wasm32-wasi)

use std::env;

fn main() {
    println!("Content-Type: text/plain\n");
    println!("Hello, world!");
    for (key, value) in env::vars() {
        println!("{}: {}", key, value);
    }
}
