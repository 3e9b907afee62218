package api

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"banger"
)

// WantsUpgrade says, as an Invalid error, when r does not ask for protocol.
// Call it first: an Upgrade is answered when nothing else can go wrong any more.
func WantsUpgrade(r *http.Request, protocol string) error {
	if !strings.EqualFold(r.Header.Get("Connection"), "Upgrade") || r.Header.Get("Upgrade") != protocol {
		return banger.Errorf(banger.Invalid, "request must be upgraded to %s", protocol)
	}
	return nil
}

// Upgrade answers 101 and takes the connection over from the HTTP server: from
// now on it is the caller's to close, and r.Context says nothing about it. The
// request's body must have been read, since what follows it is protocol. An
// error has been answered, or the client is gone: the handler just returns.
func Upgrade(w http.ResponseWriter, r *http.Request, protocol string) (net.Conn, error) {
	if err := WantsUpgrade(r, protocol); err != nil {
		WriteError(w, err)
		return nil, err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		err = fmt.Errorf("upgrade to %s: %w", protocol, err)
		WriteError(w, err)
		return nil, err
	}
	conn.SetDeadline(time.Time{}) // the server's own do not hold any more
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade to %s: %w", protocol, err)
	}
	return &bufferedConn{Conn: conn, r: rw.Reader}, nil
}

// A bufferedConn reads first what an HTTP reader has read too much.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Buffered returns conn as read through r, which has read ahead of it.
func Buffered(conn net.Conn, r *bufio.Reader) net.Conn { return &bufferedConn{Conn: conn, r: r} }
