// A small handler for TinyGo, without net/http.
//
//	tinygo build -target=wasip1 -no-debug -o handler.wasm main.go
//
// TinyGo is not available from a package registry that the tests could use. They build this file with
// Go, whose programs exit in the same way:
//
//	GOOS=wasip1 GOARCH=wasm go build -o handler.wasm main.go
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
