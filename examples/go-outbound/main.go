// Requests the URL in the query and passes the response on: /ask?https://api.example.com/
//
// The key allowed_hosts in modules.toml lists the hosts that a handler may call. Go's own net/http
// cannot send requests from WASI. Compile with Go or with TinyGo:
//
//	GOOS=wasip1 GOARCH=wasm go build -o ask.wasm main.go
//	tinygo build -target=wasip1 -o ask.wasm main.go
package main

import (
	"fmt"
	"os"
	"unsafe"
)

//go:wasmimport wasi_experimental_http req
func httpReq(url unsafe.Pointer, urlLength uint32, method unsafe.Pointer, methodLength uint32,
	headers unsafe.Pointer, headersLength uint32, body unsafe.Pointer, bodyLength uint32,
	status unsafe.Pointer, handle unsafe.Pointer) uint32

//go:wasmimport wasi_experimental_http body_read
func httpBodyRead(handle uint32, buffer unsafe.Pointer, length uint32, count unsafe.Pointer) uint32

//go:wasmimport wasi_experimental_http close
func httpClose(handle uint32) uint32

func address(text string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(text)), uint32(len(text))
}

func main() {
	url, urlLength := address(os.Getenv("QUERY_STRING"))
	method, methodLength := address("GET")
	headers, headersLength := address("x-from:go\n")
	status, handle, count := uint16(502), uint32(0), uint32(0)
	failure := httpReq(url, urlLength, method, methodLength, headers, headersLength, nil, 0,
		unsafe.Pointer(&status), unsafe.Pointer(&handle))
	fmt.Printf("Content-Type: text/plain\nStatus: %d\n\n", status)
	if failure != 0 {
		fmt.Println("failure", failure)
		return
	}
	buffer := make([]byte, 4096)
	for {
		failure = httpBodyRead(handle, unsafe.Pointer(&buffer[0]), uint32(len(buffer)),
			unsafe.Pointer(&count))
		if failure != 0 || count == 0 {
			break
		}
		os.Stdout.Write(buffer[:count])
	}
	httpClose(handle)
	if failure != 0 {
		os.Exit(1)
	}
}
