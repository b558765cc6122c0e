//! Requests the URL in the query and passes the response on: /ask?https://api.example.com/
//!
//! wasi_experimental_http has five functions, of which this example uses three, without a library.
//! The key allowed_hosts in modules.toml lists the hosts that a handler may call.
//!
//! rustc --target wasm32-wasip1 -O ask.rs

use std::env;
use std::io::{stdout, Write};

#[link(wasm_import_module = "wasi_experimental_http")]
extern "C" {
    fn req(
        url: *const u8, url_len: usize, method: *const u8, method_len: usize,
        headers: *const u8, headers_len: usize, body: *const u8, body_len: usize,
        status: *mut u16, handle: *mut u32,
    ) -> u32;
    fn close(handle: u32) -> u32;
    fn body_read(handle: u32, buffer: *mut u8, length: usize, read: *mut u32) -> u32;
}

fn main() {
    let url = env::var("QUERY_STRING").unwrap();
    let headers = "x-from:rust\n";
    let (mut status, mut handle, mut read) = (0u16, 0u32, 0u32);
    let mut buffer = [0u8; 4096];
    let failure = unsafe {
        req(url.as_ptr(), url.len(), "GET".as_ptr(), 3, headers.as_ptr(), headers.len(),
            "".as_ptr(), 0, &mut status, &mut handle)
    };
    println!("Content-Type: text/plain\nStatus: {}\n", if failure == 0 { status } else { 502 });
    if failure != 0 {
        println!("failure {}", failure);
        return;
    }
    while unsafe { body_read(handle, buffer.as_mut_ptr(), buffer.len(), &mut read) } == 0 && read > 0 {
        stdout().write_all(&buffer[..read as usize]).unwrap();
    }
    unsafe { close(handle) };
}
