//! Uses libc, because Zig's standard library still changes between versions.

extern "c" fn getenv(name: [*:0]const u8) ?[*:0]const u8;
extern "c" fn printf(format: [*:0]const u8, ...) c_int;
extern "c" fn strcmp(a: [*:0]const u8, b: [*:0]const u8) c_int;
extern "c" fn strncmp(a: [*:0]const u8, b: [*:0]const u8, n: usize) c_int;
extern "c" fn strcspn(text: [*:0]const u8, letters: [*:0]const u8) usize;
extern "c" fn getchar() c_int;
extern "c" fn putchar(letter: c_int) c_int;

pub fn main() void {
    const path = getenv("PATH_INFO") orelse "";
    const query = getenv("QUERY_STRING") orelse "";
    _ = printf("Content-Type: text/plain\n\n");
    if (strcmp(path, "/echo") == 0) {
        var letter = getchar();
        while (letter >= 0) : (letter = getchar()) _ = putchar(letter);
        return;
    }
    const name = if (strncmp(query, "name=", 5) == 0) query + 5 else "world";
    _ = printf("Hello, %.*s!\n", @as(c_int, @intCast(strcspn(name, "&"))), name);
}
