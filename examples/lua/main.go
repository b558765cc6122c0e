// Runs a Lua script with GopherLua, an interpreter for Lua 5.1 in Go: `lua.wasm FILE`.
//
//	GOOS=wasip1 GOARCH=wasm go build -o lua.wasm .
//
// In modules.toml: argv = "lua /app/handler.lua", volumes = {"/app" = {path = ".", readonly = true}}
package main

import (
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
)

func main() {
	state := lua.NewState()
	if err := state.DoFile(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
