//! Responds with the status in the path: /status/418
//!
//!     python -m ziglang build-exe -target wasm32-wasi -O ReleaseSmall -lc status.zig
//!
//! Uses libc, because Zig's standard library still changes between versions.

extern "c" fn getenv(name: [*:0]const u8) ?[*:0]const u8;
extern "c" fn printf(format: [*:0]const u8, ...) c_int;

pub fn main() void {
    const path = getenv("PATH_INFO") orelse "";
    const status = if (path[0] == '/') path + 1 else "200";
    _ = printf("Status: %s\nContent-Type: text/plain\n\nThis is status %s.\n", status, status);
}
