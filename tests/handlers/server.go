package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"time"
)

func main() {
	cgi.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		time.Sleep(20 * time.Millisecond)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		fmt.Fprintf(w, "%s %s %s %d %s\n", r.Method, r.URL.Path, r.Host, r.ContentLength, body)
	}))
}
