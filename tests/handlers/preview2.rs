// A CGI program that uses much of the standard library: arguments, variables, input, files, clocks,
// random numbers (of hash maps) and sockets. Its output is the same wherever it runs.
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

fn report<T: std::fmt::Debug>(what: &str, result: std::io::Result<T>) {
    match result {
        Ok(value) => println!("{what}: {value:?}"),
        Err(error) => println!("{what}: {:?}", error.kind()),
    }
}

fn files() -> std::io::Result<()> {
    report("given", fs::read_to_string("/data/given.txt"));
    report("link out of the volume", fs::read_to_string("/data/link.txt"));
    report("parent", fs::read_to_string("/data/../outside.txt"));
    report("absent", fs::read_to_string("/data/absent.txt"));
    report("not preopened", fs::read_to_string("/etc/hostname"));
    report("directory as a file", fs::read_to_string("/data"));
    fs::create_dir("/data/folder")?;
    report("again", fs::create_dir("/data/folder"));
    fs::write("/data/folder/a.txt", b"0123456789")?;
    let mut file = OpenOptions::new().read(true).write(true).open("/data/folder/a.txt")?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"four")?;
    file.seek(SeekFrom::End(-3))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    println!("rest: {rest}");
    file.set_len(6)?;
    file.sync_all()?;
    println!("length: {}", file.metadata()?.len());
    OpenOptions::new().append(true).open("/data/folder/a.txt")?.write_all(b"+more")?;
    report("appended", fs::read_to_string("/data/folder/a.txt"));
    report("exclusive", OpenOptions::new().write(true).create_new(true).open("/data/folder/a.txt"));
    report("read only", File::open("/data/folder/a.txt")?.write(b"x"));
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789))?;
    let modified = file.metadata()?.modified()?;
    println!("modified: {:?}", modified.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    fs::hard_link("/data/folder/a.txt", "/data/folder/b.txt")?;
    fs::rename("/data/folder/b.txt", "/data/folder/c.txt")?;
    report("rename what is absent", fs::rename("/data/folder/b.txt", "/data/folder/d.txt"));
    let mut names: Vec<_> = fs::read_dir("/data/folder")?
        .map(|entry| entry.map(|e| (e.file_name(), e.file_type().unwrap().is_file())))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    println!("entries: {names:?}");
    report("remove what is not empty", fs::remove_dir("/data/folder"));
    fs::remove_file("/data/folder/a.txt")?;
    report("link", fs::read_link("/data/link.txt"));
    println!("is a link: {}", fs::symlink_metadata("/data/link.txt")?.file_type().is_symlink());
    let large = vec![b'x'; 300_000];
    fs::write("/data/large.txt", &large)?;
    println!("large: {}", fs::read("/data/large.txt")? == large);
    fs::create_dir_all("/data/x/y/z")?;
    fs::remove_dir_all("/data/x")
}

fn main() {
    println!("Content-Type: text/plain\n");
    println!("arguments: {:?}", std::env::args().collect::<Vec<_>>());
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    println!("variables: {variables:?}");
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).unwrap();
    println!("body: {} bytes, {}", body.len(), body.iter().map(|&b| b as u64).sum::<u64>());
    report("files", files());
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    println!("slept: {}", start.elapsed() >= Duration::from_millis(20));
    println!("now: {}", SystemTime::now() > SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    let map: HashMap<_, _> = (0..100).map(|n| (n, n * n)).collect();
    println!("map: {}", map.values().sum::<i32>());
    let error = std::net::TcpStream::connect("127.0.0.1:9").unwrap_err();
    println!("socket: {}", error.kind() == ErrorKind::PermissionDenied);
    std::io::stderr().write_all(b"to standard error\n").unwrap();
    print!("{}", "0123456789abcdef\n".repeat(10_000));
    match std::env::args().last().as_deref() {
        Some("panic") => panic!("as requested"),
        Some("fail") => std::process::exit(1),
        _ => {}
    }
}
