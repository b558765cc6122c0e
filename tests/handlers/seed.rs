use std::env;
fn main() {
  println!("Content-Type: text/plain\n");
  println!("Hello, world!");
  for (key, value) in env::vars() { println!("{}: {}", key, value); }
}
