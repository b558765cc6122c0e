import os
import sys
from urllib.parse import parse_qs

output = sys.stdout.buffer
output.write(b"Content-Type: text/plain\n\n")
if os.environ["PATH_INFO"] == "/echo":
    while block := sys.stdin.buffer.read(65536):
        output.write(block)
else:
    name = parse_qs(os.environ["QUERY_STRING"]).get("name", ["world"])[0]
    output.write(f"Hello, {name}!\n".encode())
