// A Go handler whose runtime starts once, at build time, instead of once per request.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o handler.wasm main.go
//	wagi snapshot handler.wasm -o handler.snapshot.wasm
//
// In modules.toml: module = "handler.snapshot.wasm", entrypoint = "handle"
package main

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"strings"
	"unsafe"
)

// Work that is the same for all requests runs here, before the snapshot is taken.
var squares = map[int]int{}

func init() {
	for i := range 10000 {
		squares[i] = i * i
	}
}

//go:wasmexport handle
func handle() {
	environment()
	cgi.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s! %d\n", r.URL.Query().Get("name"), squares[111])
	}))
}

func main() {}

// Go reads its environment when the runtime starts, which is before the snapshot. Load the variables
// of this request instead.
func environment() {
	var count, size uint32
	environSizesGet(unsafe.Pointer(&count), unsafe.Pointer(&size))
	pointers, block := make([]uint32, count), make([]byte, size)
	environGet(unsafe.Pointer(&pointers[0]), unsafe.Pointer(&block[0]))
	for _, pair := range strings.Split(strings.TrimSuffix(string(block), "\x00"), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		os.Setenv(name, value)
	}
}

//go:wasmimport wasi_snapshot_preview1 environ_sizes_get
func environSizesGet(count, size unsafe.Pointer) uint32

//go:wasmimport wasi_snapshot_preview1 environ_get
func environGet(pointers, block unsafe.Pointer) uint32
