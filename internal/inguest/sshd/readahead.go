package sshd

import (
	"bufio"
	"net"
	"sync/atomic"
)

// readAheadSize is how many bytes are read from a connection at once. A packet
// takes x/crypto/ssh two reads, and in an emulated guest a system call costs as
// much as deciphering some 2 KiB: 256 MiB into a guest took 16 to 17 s so, and
// 13 to 15 s with it.
const readAheadSize = 128 << 10

// A readAhead is a connection that reads more than it is asked for once its peer
// is known: memory is not for those who only connect.
type readAhead struct {
	net.Conn
	known atomic.Bool
	buf   *bufio.Reader // of the one goroutine that reads
}

func (c *readAhead) Read(p []byte) (int, error) {
	if c.buf == nil {
		if !c.known.Load() {
			return c.Conn.Read(p)
		}
		c.buf = bufio.NewReaderSize(c.Conn, readAheadSize)
	}
	return c.buf.Read(p)
}
