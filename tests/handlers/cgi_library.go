// A handler as net/http/cgi serves it from any CGI server: the default ServeMux with patterns.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/cgi"
	"net/url"
	"os"
	"strings"
)

func main() {
	// net/http matches the whole path, of which SCRIPT_NAME is the beginning.
	root := strings.TrimSuffix(os.Getenv("SCRIPT_NAME"), "/")
	if root != "" {
		http.HandleFunc(root, index)
	}
	http.HandleFunc(root+"/{$}", index)
	http.HandleFunc(root+"/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", r.FormValue("name"))
	})
	http.HandleFunc(root+"/old", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "hello?name=moved", http.StatusFound)
	})
	http.HandleFunc(root+"/tree/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s of the tree", strings.TrimPrefix(r.URL.Path, root+"/tree/"))
	})
	if err := cgi.Serve(nil); err != nil {
		log.Fatal(err)
	}
}

func index(w http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" {
		fmt.Fprintf(w, "Hello, %s!", r.PostFormValue("name"))
		return
	}
	path := strings.TrimSuffix(os.Getenv("SCRIPT_NAME"), "/") + "/hello"
	json.NewEncoder(w).Encode(map[string]string{
		"url":  r.URL.String(),
		"link": r.URL.ResolveReference(&url.URL{Path: path}).String(),
	})
}
