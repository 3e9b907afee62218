package sshd

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	dialLimit   = 30 * time.Second
	maxForwards = 64 // listeners of one connection
)

// serveDirect connects to an address as seen from inside the VM (ssh -L).
func (c *conn) serveDirect(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil || m.Port > 65535 {
		nc.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	d := net.Dialer{Timeout: dialLimit}
	far, err := d.DialContext(c.ctx, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		far.Close()
		return
	}
	c.join(ch, reqs, far)
}

// join copies both ways until both have ended or the connection is lost.
func (c *conn) join(ch ssh.Channel, reqs <-chan *ssh.Request, far net.Conn) {
	defer ch.Close()
	defer far.Close()
	defer context.AfterFunc(c.ctx, func() { far.Close() })()
	var reqsDone, out sync.WaitGroup
	reqsDone.Go(func() {
		ssh.DiscardRequests(reqs)
		// The channel is gone: nobody wants what far has to say. What came
		// through the channel before is still on its way to far.
		if half, ok := far.(interface{ CloseRead() error }); ok {
			half.CloseRead()
		}
	})
	out.Go(func() {
		io.Copy(far, ch)
		if half, ok := far.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	})
	io.Copy(ch, far)
	ch.CloseWrite() // the other direction may go on
	out.Wait()
	ch.Close()
	reqsDone.Wait()
}

// forwards are the listeners that a client asked for (ssh -R), by the address
// that it asked for.
type forwards struct {
	mu sync.Mutex
	ls map[string]net.Listener
}

type forwardRequest struct {
	Host string
	Port uint32
}

// listen opens a port inside the VM whose connections go to the client.
func (c *conn) listen(payload []byte) (bool, []byte) {
	var m forwardRequest
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port > 65535 {
		return false, nil
	}
	if m.Port != 0 && m.Port < 1024 && c.account.UID != 0 {
		return false, nil
	}
	host := m.Host
	if host == "*" {
		host = ""
	}
	c.forwards.mu.Lock()
	defer c.forwards.mu.Unlock()
	if len(c.forwards.ls) >= maxForwards {
		return false, nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(m.Port))))
	if err != nil {
		return false, nil
	}
	port := uint32(l.Addr().(*net.TCPAddr).Port)
	if c.forwards.ls == nil {
		c.forwards.ls = map[string]net.Listener{}
	}
	c.forwards.ls[net.JoinHostPort(m.Host, strconv.Itoa(int(port)))] = l
	c.wg.Go(func() { c.acceptForwarded(l, m.Host, port) })
	if m.Port == 0 {
		return true, ssh.Marshal(struct{ Port uint32 }{port})
	}
	return true, nil
}

func (c *conn) unlisten(payload []byte) bool {
	var m forwardRequest
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return false
	}
	key := net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port)))
	c.forwards.mu.Lock()
	defer c.forwards.mu.Unlock()
	l, ok := c.forwards.ls[key]
	if ok {
		l.Close()
		delete(c.forwards.ls, key)
	}
	return ok
}

func (f *forwards) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.ls {
		l.Close()
	}
}

func (c *conn) acceptForwarded(l net.Listener, host string, port uint32) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case c.channels <- struct{}{}:
			c.wg.Go(func() {
				defer func() { <-c.channels }()
				c.forward(near, host, port)
			})
		default:
			near.Close()
		}
	}
}

func (c *conn) forward(near net.Conn, host string, port uint32) {
	origin, _ := near.RemoteAddr().(*net.TCPAddr)
	if origin == nil {
		origin = &net.TCPAddr{IP: net.IPv4zero}
	}
	ch, reqs, err := c.ssh.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{host, port, origin.IP.String(), uint32(origin.Port)}))
	if err != nil {
		near.Close()
		return
	}
	c.join(ch, reqs, near)
}
