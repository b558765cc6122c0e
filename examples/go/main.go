// A handler that uses net/http/cgi; the same code runs as a CGI program under any server.
//
//	GOOS=wasip1 GOARCH=wasm go build -o handler.wasm main.go
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"strings"
)

func main() {
	// net/http matches the whole path, of which SCRIPT_NAME is the part that matched the route. For
	// the route /..., SCRIPT_NAME is "/", and root is empty.
	root := strings.TrimSuffix(os.Getenv("SCRIPT_NAME"), "/")
	mux := http.NewServeMux()
	mux.HandleFunc(root+"/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!\n", r.URL.Query().Get("name"))
	})
	mux.HandleFunc("POST "+root+"/echo", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc(root+"/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, root+"/hello?name=again", http.StatusSeeOther)
	})
	mux.HandleFunc(root+"/status", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		w.WriteHeader(http.StatusTeapot)
	})
	if err := cgi.Serve(mux); err != nil {
		log.Fatal(err)
	}
}
