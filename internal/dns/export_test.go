package dns

import (
	"encoding/binary"
	"log/slog"
	"net/netip"

	"github.com/miekg/dns"
)

// Handler answers what v tells of.
func Handler(v View) dns.Handler { return handler{view: v, log: slog.New(slog.DiscardHandler)} }

// Accepted reports whether a message with this header is read.
func Accepted(raw []byte) bool {
	if len(raw) < 12 {
		return false
	}
	u := func(i int) uint16 { return binary.BigEndian.Uint16(raw[2*i:]) }
	return accept(dns.Header{Id: u(0), Bits: u(1), Qdcount: u(2), Ancount: u(3), Nscount: u(4), Arcount: u(5)}) == dns.MsgAccept
}

// Quickly is what a question by UDP is answered with where it is read; nothing: it is
// left to the library.
func Quickly(v View, raw []byte, asker netip.Addr) []byte {
	c := quickConn{handler: handler{view: v, log: slog.New(slog.DiscardHandler)}}
	return c.answer(nil, raw, asker)
}
