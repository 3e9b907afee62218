package sshd

import (
	"io"
	"net"
	"strings"
	"testing"
)

// asked is a connection that notes how much it was asked for.
type asked struct {
	net.Conn
	from io.Reader
	most int
}

func (a *asked) Read(p []byte) (int, error) {
	a.most = max(a.most, len(p))
	return a.from.Read(p)
}

func TestReadAhead(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	conn := &asked{from: strings.NewReader(text)}
	r := &readAhead{Conn: conn}
	first := make([]byte, 7)
	if n, err := r.Read(first); n != 7 || err != nil || conn.most != 7 {
		t.Errorf("before the peer is known: %d bytes, %v, and %d were asked for", n, err, conn.most)
	}
	r.known.Store(true)
	rest, err := io.ReadAll(r)
	if got := string(first) + string(rest); got != text || err != nil {
		t.Errorf("%d bytes, %v; %d were sent", len(got), err, len(text))
	}
	if conn.most != readAheadSize {
		t.Errorf("%d bytes were asked for at once", conn.most)
	}
}
