// Everything that the TinyGo page promises: the last segment of PATH_INFO selects a feature.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	switch feature := path.Base(os.Getenv("PATH_INFO")); feature {
	case "environment", ".", "/":
		begin("text/plain")
		for _, variable := range os.Environ() {
			fmt.Println(variable)
		}
	case "arguments":
		begin("text/plain")
		fmt.Println(strings.Join(os.Args, " "))
	case "body":
		begin("application/octet-stream")
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fail(err)
		}
	case "json":
		sum()
	case "query":
		begin("text/plain")
		query, err := url.ParseQuery(os.Getenv("QUERY_STRING"))
		if err != nil {
			fail(err)
		}
		fmt.Println(query["name"])
	case "volume":
		count()
	case "exit":
		begin("text/plain")
		fmt.Println("before the exit")
		code, _ := strconv.Atoi(os.Getenv("QUERY_STRING"))
		os.Exit(code)
	case "panic":
		begin("text/plain")
		explode(nil)
	case "goroutines":
		goroutines()
	default:
		fmt.Print("Status: 404\nContent-Type: text/plain\n\n")
		fmt.Printf("no feature %q\n", feature)
	}
}

func begin(contentType string) { fmt.Printf("Content-Type: %s\n\n", contentType) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func sum() {
	var order struct {
		Item   string `json:"item"`
		Prices []int  `json:"prices"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&order); err != nil {
		fmt.Print("Status: 400\nContent-Type: text/plain\n\n")
		fmt.Println(err)
		return
	}
	total := 0
	for _, price := range order.Prices {
		total += price
	}
	begin("application/json")
	json.NewEncoder(os.Stdout).Encode(map[string]any{"item": order.Item, "total": total})
}

func count() {
	content, err := os.ReadFile("/data/count")
	if err != nil && !os.IsNotExist(err) {
		fail(err)
	}
	number, _ := strconv.Atoi(string(content))
	number++
	if err := os.WriteFile("/data/count", []byte(strconv.Itoa(number)), 0o644); err != nil {
		fail(err)
	}
	begin("text/plain")
	fmt.Println(number)
}

func goroutines() {
	results := make(chan int)
	var group sync.WaitGroup
	for i := 1; i <= 10; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			time.Sleep(time.Millisecond)
			results <- i
		}()
	}
	go func() { group.Wait(); close(results) }()
	total := 0
	for result := range results {
		total += result
	}
	begin("text/plain")
	fmt.Println(total)
}

//go:noinline
func explode(numbers map[string]int) {
	numbers["one"] = 1
}
