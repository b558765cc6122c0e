// A handler for TinyGo: small, and without net/http.
//
//	tinygo build -target=wasip1 -no-debug -o handler.wasm main.go
//
// The same file builds with Go: GOOS=wasip1 GOARCH=wasm go build -o handler.wasm main.go
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
