// A handler for TinyGo: small, and without net/http.
//
//	tinygo build -target=wasip1 -no-debug -o handler.wasm main.go
//
// TinyGo comes in no package registry that the tests can install from, so they build this file with
// Go, which ends a program in the same way:
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
