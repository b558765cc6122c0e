//! Server-sent events: the client receives each event as soon as it is flushed.
//!
//! rustc --target wasm32-wasip1 -O stream.rs

use std::io::{stdout, Write};
use std::thread::sleep;
use std::time::Duration;

fn main() {
    println!("Content-Type: text/event-stream\n");
    for number in 1..=5 {
        println!("data: {}\n", number);
        stdout().flush().unwrap();
        sleep(Duration::from_millis(200));
    }
}
