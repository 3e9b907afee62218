package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// A quickConn answers by itself what is asked most, as it reads it: a question by UDP
// about NAME.vm, with at most a plain OPT behind it. All else it hands to the library,
// and each of its answers is, byte for byte, what that would have said (FuzzQuick). To
// take each message apart, give it a goroutine and put the answer together takes twice
// the time of the same in a C program.
type quickConn struct {
	*net.UDPConn // of IPv4
	handler
	waits  syscall.RawConn
	socket rawSocket
	out    []byte
}

func newQuickConn(c *net.UDPConn, h handler) (*quickConn, error) {
	waits, err := c.SyscallConn()
	return &quickConn{UDPConn: c, handler: h, waits: waits}, err
}

// atOnce is how many messages are answered before other goroutines have their turn.
const atOnce = 64

// ReadFrom implements net.PacketConn: it reads what it did not answer itself. There is
// one reader.
func (c *quickConn) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for from == nil && err == nil {
		var failed syscall.Errno
		err = c.waits.Read(func(fd uintptr) (done bool) {
			n, from, failed = c.serve(fd, b)
			return failed != unix.EAGAIN
		})
		if err == nil && failed != 0 {
			err = &net.OpError{Op: "read", Net: "udp", Addr: c.LocalAddr(), Err: os.NewSyscallError("recvfrom", failed)}
		}
		if from == nil {
			runtime.Gosched()
		}
	}
	return n, from, err
}

// serve answers messages until it has one that the library has to answer, which is
// of n bytes and in b, or there is none any more, or for the time being enough.
func (c *quickConn) serve(fd uintptr, b []byte) (n int, from net.Addr, failed syscall.Errno) {
	for range atOnce {
		if n, failed = c.socket.receive(fd, b); failed != 0 {
			return 0, nil, failed
		}
		asker := c.socket.sender()
		if c.out = c.answer(c.out[:0], b[:n], asker.Addr()); len(c.out) == 0 {
			return n, net.UDPAddrFromAddrPort(asker), 0
		}
		if failed := c.socket.reply(fd, c.out); failed != 0 {
			c.log.Debug("answer a name", "asker", asker, "err", failed)
		}
	}
	return 0, nil, 0
}

// answer appends the answer to message q, nothing if that is not for a quickConn.
func (c *quickConn) answer(out, q []byte, asker netip.Addr) []byte {
	p, ok := plainly(q)
	if !ok {
		return out
	}
	names, err := c.view(context.Background(), asker)
	if err != nil || names == nil {
		return out
	}
	return p.answer(out, names)
}

// Parts of a message (RFC 1035, 4.1). Fields are of two bytes.
const (
	headerLen = 12
	opcodes   = 0xf << 11
	response  = 1 << 15
	authority = 1 << 10
	kept      = 1<<8 | 1<<4 // recursion desired, checking disabled: what an answer repeats
	optLen    = 11          // of an OPT without options
)

var zoneName = []byte{2, 'v', 'm', 0}

// zoneSOA is the zone's SOA record.
var zoneSOA = func() []byte {
	b := make([]byte, dns.MinMsgSize)
	n, err := dns.PackRR(soa(Zone), b, 0, nil, false)
	if err != nil {
		panic(err) // it depends on nothing
	}
	return b[:n]
}()

// A plainQuestion is one about NAME.vm, of class IN.
type plainQuestion struct {
	header, question []byte
	name             []byte // of question, as in a message
	label            [63]byte
	labelLen         int // of label, which is in lower case
	kind             uint16
	opt              bool
	do               bool
	size             int // of the longest answer, bytes
}

// plainly takes a message apart; not ok: it is none of those.
func plainly(m []byte) (p plainQuestion, ok bool) {
	if len(m) < headerLen+1 {
		return p, false
	}
	field := func(at int) uint16 { return binary.BigEndian.Uint16(m[at:]) }
	if field(2)&(response|opcodes) != 0 || field(4) != 1 || field(6) != 0 || field(8) != 0 || field(10) > 1 {
		return p, false
	}
	p.labelLen = int(m[headerLen])
	nameLen := 1 + p.labelLen + len(zoneName)
	end := headerLen + nameLen + 4
	if p.labelLen == 0 || p.labelLen > len(p.label) || len(m) < end {
		return p, false
	}
	p.header, p.question, p.name = m[:headerLen], m[headerLen:end], m[headerLen:headerLen+nameLen]
	for i, b := range p.name[1 : 1+p.labelLen] {
		lower, plain := lowered(b)
		if !plain {
			return p, false
		}
		p.label[i] = lower
	}
	p.kind = field(end - 4)
	if !bytes.EqualFold(p.name[1+p.labelLen:], zoneName) || field(end-2) != dns.ClassINET {
		return p, false
	}
	switch p.kind {
	case dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR:
		return p, false
	}
	p.size = dns.MinMsgSize
	if field(10) == 0 {
		return p, len(m) == end
	}
	// One record: the root's name, OPT, the asker's size, version 0, no options.
	if len(m) != end+optLen || m[end] != 0 || field(end+1) != dns.TypeOPT || m[end+6] != 0 || field(end+9) != 0 {
		return p, false
	}
	const do = 1 << 15
	p.opt, p.do = true, field(end+7)&do != 0
	p.size = max(p.size, min(int(field(end+3)), payload))
	return p, true
}

// lowered is a character of a label in lower case; others than these are written in
// more than one way.
func lowered(b byte) (lower byte, plain bool) {
	switch {
	case 'A' <= b && b <= 'Z':
		return b + 'a' - 'A', true
	case 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '-' || b == '_':
		return b, true
	}
	return 0, false
}

// answer appends the answer, nothing if that is too long or has other addresses than
// those of IPv4.
func (p *plainQuestion) answer(out []byte, names *Names) []byte {
	begin := len(out)
	addrs, there := names.hosts[string(p.label[:p.labelLen])]
	if p.kind != dns.TypeA {
		addrs = nil
	}
	bits := binary.BigEndian.Uint16(p.header[2:])&kept | response | authority
	if !there {
		bits |= dns.RcodeNameError
	}
	put := binary.BigEndian.AppendUint16
	out = put(append(out, p.header[:2]...), bits)
	out = put(put(out, 1), uint16(len(addrs)))
	out = put(put(out, flag(len(addrs) == 0)), flag(p.opt))
	out = append(out, p.question...)
	for _, a := range addrs {
		if !a.Is4() {
			return out[:begin]
		}
		ip := a.As4()
		out = put(put(append(out, p.name...), dns.TypeA), dns.ClassINET)
		out = put(put(put(out, ttl), ttl), uint16(len(ip)))
		out = append(out, ip[:]...)
	}
	if len(addrs) == 0 {
		out = append(out, zoneSOA...)
	}
	if p.opt {
		out = put(put(append(out, 0), dns.TypeOPT), payload)
		out = put(put(put(out, 0), flag(p.do)<<15), 0)
	}
	if len(out)-begin > p.size {
		return out[:begin]
	}
	return out
}

func flag(set bool) uint16 {
	if set {
		return 1
	}
	return 0
}
