// Sends two requests with the client of net/http: httpget URL.
package main

import (
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	for _, body := range []io.Reader{nil, strings.NewReader("a=b")} {
		method := http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
		request, err := http.NewRequest(method, os.Args[1], body)
		if err != nil {
			panic(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}
