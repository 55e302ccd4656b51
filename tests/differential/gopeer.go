// A TLS peer with Go's crypto/tls: one connection to 127.0.0.1:port, or a server on that port.
//
// It uses only the standard library, so `go build` needs no network.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"strconv"
	"strings"
	"time"
)

const wait = 10 * time.Second

var versions = map[string]uint16{
	"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13,
}

func main() {
	log.SetFlags(0)
	port := flag.Int("port", 0, "port on 127.0.0.1 to connect to or to serve")
	identity := flag.String("identity", "", "serve with this PEM file of key and certificate")
	name := flag.String("name", "", "server_name; empty for none")
	lowest := flag.String("min", "1.0", "lowest version")
	highest := flag.String("max", "1.3", "highest version")
	alpn := flag.String("alpn", "", "protocols, separated by commas")
	curves := flag.String("curves", "", "numbers of groups, separated by commas; empty for Go's own")
	suites := flag.String("suites", "", "all, or the names of suites, or empty for Go's own")
	resume := flag.Bool("resume", false, "connect a second time, with the session of the first")
	tickets := flag.Bool("tickets", true, "offer or give session tickets")
	flag.Parse()

	config := &tls.Config{
		InsecureSkipVerify:     true,
		ServerName:             *name,
		MinVersion:             versions[*lowest],
		MaxVersion:             versions[*highest],
		NextProtos:             words(*alpn),
		CipherSuites:           chosen(*suites),
		SessionTicketsDisabled: !*tickets,
	}
	for _, word := range words(*curves) {
		number, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			log.Fatal(err)
		}
		config.CurvePreferences = append(config.CurvePreferences, tls.CurveID(number))
	}
	address := fmt.Sprintf("127.0.0.1:%d", *port)
	if *identity != "" {
		serve(address, *identity, config)
	}
	if *resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		connect(address, config)
	}
	connect(address, config)
}

func words(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func chosen(names string) []uint16 {
	var found []uint16
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		for _, name := range words(names) {
			if name == "all" || name == suite.Name {
				found = append(found, suite.ID)
			}
		}
	}
	return found
}

// connect logs a failed handshake but does not fail, because the hello was sent.
func connect(address string, config *tls.Config) {
	raw, err := net.DialTimeout("tcp", address, wait)
	if err != nil {
		log.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(wait))
	connection := tls.Client(raw, config)
	if err := connection.Handshake(); err != nil {
		log.Print(err)
		return
	}
	// A TLS 1.3 server sends session tickets after the handshake: wait for its first byte or the end.
	connection.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	connection.Read(make([]byte, 1))
}

func serve(address, identity string, config *tls.Config) {
	certificate, err := tls.LoadX509KeyPair(identity, identity)
	if err != nil {
		log.Fatal(err)
	}
	config.Certificates = []tls.Certificate{certificate}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	for {
		raw, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(wait))
			if err := tls.Server(raw, config).Handshake(); err != nil {
				log.Print(err)
			}
		}()
	}
}
