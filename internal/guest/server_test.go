package guest_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"banger/internal/guest"
	"banger/internal/guestapi"
)

// A session is what a command of the pretend guest sees of its channel.
type session struct {
	ssh.Channel
	exec    guestapi.Exec
	env     []string
	shell   bool
	pty     string                 // its TERM
	control chan map[string]string // resizes and signals, as they come
}

func (s *session) exit(code uint32) {
	s.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
}

func (s *session) killed(signal string) {
	s.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Signal        string
		CoreDumped    bool
		Message, Lang string
	}{Signal: signal}))
}

// A pretendGuest is a guest program whose commands are functions.
type pretendGuest struct {
	hostKey  ssh.Signer
	accepts  ssh.PublicKey
	run      func(*session) // the channel is closed when it returns
	booted   chan struct{}  // closed: wait-booted is answered
	shutdown chan string
	version  int

	mu    sync.Mutex
	conns []net.Conn
	ice   <-chan struct{} // not nil: global requests wait until it is closed
	wg    sync.WaitGroup
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	private, _, err := guest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newGuest returns a guest that is not reachable yet, and the config that
// reaches it through dial.
func newGuest(t *testing.T, run func(*session)) (*pretendGuest, guest.Config) {
	key := newKey(t)
	g := &pretendGuest{
		hostKey: newKey(t), accepts: key.PublicKey(), run: run,
		booted: make(chan struct{}), shutdown: make(chan string, 1), version: guestapi.Version,
	}
	t.Cleanup(func() {
		g.closeConns()
		g.wg.Wait()
	})
	return g, guest.Config{HostKey: g.hostKey.PublicKey(), Signer: key, Dial: g.dial}
}

// dial connects over TCP, whose buffers let both sides speak first.
func (g *pretendGuest) dial(ctx context.Context) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var d net.Dialer
	near, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		near.Close()
		return nil, err
	}
	g.wg.Go(func() { g.serve(far) })
	return near, nil
}

func (g *pretendGuest) closeConns() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
}

// freeze stops the answers to global requests until thaw is closed.
func (g *pretendGuest) freeze(thaw <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ice = thaw
}

func (g *pretendGuest) serve(c net.Conn) {
	g.mu.Lock()
	g.conns = append(g.conns, c)
	g.mu.Unlock()
	defer c.Close()
	sc := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(g.accepts.Marshal()) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}}
	sc.AddHostKey(g.hostKey)
	conn, chans, reqs, err := ssh.NewServerConn(c, sc)
	if err != nil {
		return
	}
	g.wg.Go(func() { g.global(conn, reqs) })
	for nc := range chans {
		switch nc.ChannelType() {
		case "session":
			ch, reqs, _ := nc.Accept()
			g.wg.Go(func() { g.session(ch, reqs) })
		case "direct-tcpip": // answers everything with itself
			ch, reqs, _ := nc.Accept()
			g.wg.Go(func() { ssh.DiscardRequests(reqs) })
			g.wg.Go(func() { io.Copy(ch, ch); ch.Close() })
		default:
			nc.Reject(ssh.UnknownChannelType, "")
		}
	}
}

// global answers in order, as SSH demands: wait-booted holds up what follows.
func (g *pretendGuest) global(conn ssh.Conn, reqs <-chan *ssh.Request) {
	lost := make(chan struct{})
	g.wg.Go(func() { conn.Wait(); close(lost) })
	for r := range reqs {
		g.mu.Lock()
		ice := g.ice
		g.mu.Unlock()
		if ice != nil {
			<-ice
		}
		switch r.Type {
		case guestapi.StatusRequest:
			b, _ := json.Marshal(guestapi.Status{Version: g.version, Launch: "0123456789abcdef"})
			r.Reply(true, b)
		case guestapi.WaitBootedRequest:
			select {
			case <-g.booted:
			case <-lost:
			}
			b, _ := json.Marshal(guestapi.Status{Version: g.version, Booted: true})
			r.Reply(true, b)
		case guestapi.ShutdownRequest:
			g.shutdown <- string(r.Payload)
			r.Reply(true, nil)
		default:
			r.Reply(false, nil)
		}
	}
}

func (g *pretendGuest) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	s := &session{Channel: ch, control: make(chan map[string]string, 64)}
	defer close(s.control)
	for r := range reqs {
		begin := false
		switch r.Type {
		case "pty-req":
			var m struct {
				Term                      string
				Cols, Rows, Width, Height uint32
				Modes                     string
			}
			ssh.Unmarshal(r.Payload, &m)
			s.pty = m.Term
		case "env":
			var m struct{ Name, Value string }
			ssh.Unmarshal(r.Payload, &m)
			s.env = append(s.env, m.Name+"="+m.Value)
		case "shell":
			s.shell, begin = true, true
		case guestapi.ExecRequest:
			var m struct{ JSON string }
			ssh.Unmarshal(r.Payload, &m)
			json.Unmarshal([]byte(m.JSON), &s.exec)
			begin = true
			if len(s.exec.Argv) > 0 && s.exec.Argv[0] == "refused" {
				r.Reply(false, nil)
				continue
			}
		case "window-change":
			s.control <- map[string]string{"resize": "yes"}
		case "signal":
			var m struct{ Name string }
			ssh.Unmarshal(r.Payload, &m)
			s.control <- map[string]string{"signal": m.Name}
		}
		if r.WantReply {
			r.Reply(true, nil)
		}
		if begin {
			g.wg.Go(func() { g.run(s); ch.Close() })
		}
	}
}

// limited is a ctx that ends a test which hangs.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, run func(*session)) (*guest.Conn, *pretendGuest) {
	t.Helper()
	g, cfg := newGuest(t, run)
	c, err := guest.Dial(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, g
}

func argv(words string) guestapi.Exec { return guestapi.Exec{Argv: strings.Fields(words)} }
