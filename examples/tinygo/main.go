// A small handler for TinyGo, which has no net/http/cgi.
//
//	tinygo build -target=wasip1 -o handler.wasm main.go
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	fmt.Print("Content-Type: text/plain\n\n")
	fmt.Println("Hello,", os.Getenv("QUERY_STRING"))
	if os.Getenv("REQUEST_METHOD") == "POST" {
		io.Copy(os.Stdout, os.Stdin)
	}
}
