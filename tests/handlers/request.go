// Prints its arguments, its variables and its input, and ends with the status 3 if the query has exit.
package main

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

func main() {
	input, _ := io.ReadAll(os.Stdin)
	variables := os.Environ()
	sort.Strings(variables)
	fmt.Print("Content-Type: text/plain\n\n")
	fmt.Printf("%q\n%s\n%s\n", os.Args, strings.Join(variables, "\n"), input)
	fmt.Fprintln(os.Stderr, "on stderr")
	if strings.Contains(os.Getenv("QUERY_STRING"), "exit") {
		os.Exit(3)
	}
}
