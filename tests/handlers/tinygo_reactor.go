// A reactor: its exports are entry points, and _routes maps sub-routes to them.
package main

import (
	"fmt"
	"os"
)

var greeting string

func init() { greeting = "Hello" }

func main() {}

//go:wasmexport _routes
func routes() {
	fmt.Println("/greet greet")
	fmt.Println("/many/... many")
}

//go:wasmexport greet
func greet() {
	fmt.Printf("Content-Type: text/plain\n\n%s, %s!\n", greeting, os.Getenv("QUERY_STRING"))
}

//go:wasmexport many
func many() {
	fmt.Printf("Content-Type: text/plain\n\nmany %s\n", os.Getenv("PATH_INFO"))
}
