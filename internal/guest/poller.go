package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banger/internal/guestapi"
)

var (
	errSilent     = errors.New("no answer")
	errSuperseded = errors.New("another attempt was answered first")
)

// A poller makes overlapping attempts. All but the attempts themselves runs in
// the goroutine of WaitReady.
//
// Where there is a vsock, one attempt at a time goes there: it is told at once that
// nobody listens. Those by the network are made beside it and go on, once they are
// connected, only if the vsock does not follow: the guest program listens there first.
type poller struct {
	cfg      Config
	linked   chan *attempt // the attempt is connected, and waits for its turn
	answered chan *attempt // the guest has sent something
	results  chan *attempt // the attempt has ended
	running  map[*attempt]bool
	favoured *attempt // connected by vsock, or answered, and alone since

	vsock   bool             // may answer before the network does
	without bool             // there is no vsock
	waiting []*attempt       // by the network, connected
	grace   <-chan time.Time // until they go on; nil: none has waited yet
}

const (
	// vsockGrace is how long after the network the guest's vsock may come. It is lost
	// where the guest has no driver for that.
	vsockGrace = 2 * time.Second
	// vsockPatience is how long a vsock may take to say whether anybody listens. Before
	// the guest has its driver it says nothing.
	vsockPatience = 30 * time.Second
)

type attempt struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	vsock  bool
	turn   chan struct{} // closed when it may go on

	conn   *Conn
	status guestapi.Status
	err    error
}

func newPoller(cfg Config) *poller {
	return &poller{
		cfg:      cfg,
		linked:   make(chan *attempt),
		answered: make(chan *attempt),
		results:  make(chan *attempt),
		running:  make(map[*attempt]bool),
		vsock:    cfg.VSock != nil,
	}
}

// begin starts the attempts that are due, unless one is being answered already: the
// guest's CPU is the bottleneck of a start.
func (p *poller) begin(ctx context.Context, patience time.Duration) {
	if p.favoured != nil {
		return
	}
	p.start(ctx, p.cfg, patience, false)
	if p.cfg.VSock == nil || p.without || p.tries(func(a *attempt) bool { return a.vsock }) {
		return
	}
	cfg := p.cfg
	cfg.Dial = cfg.VSock // of the connections that this one makes later, too
	p.start(ctx, cfg, vsockPatience, true)
}

func (p *poller) tries(which func(*attempt) bool) bool {
	for a := range p.running {
		if which(a) {
			return true
		}
	}
	return false
}

// start starts an attempt, which may wait so long for a first byte, and by vsock for a
// connection.
func (p *poller) start(ctx context.Context, cfg Config, patience time.Duration, vsock bool) {
	a := &attempt{vsock: vsock, turn: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	p.running[a] = true
	go func() {
		limit := time.AfterFunc(patience, func() { a.cancel(errSilent) })
		defer limit.Stop()
		connected := func() error {
			if p.cfg.VSock == nil {
				return nil
			}
			limit.Reset(handshakeLimit)
			if err := a.say(p.linked); err != nil {
				return err
			}
			select {
			case <-a.turn:
				return nil
			case <-a.ctx.Done():
				return context.Cause(a.ctx)
			}
		}
		a.conn, a.status, a.err = try(a.ctx, cfg, connected, func() {
			limit.Reset(handshakeLimit)
			_ = a.say(p.answered)
		})
		p.results <- a
	}()
}

// say tells the poller, unless the attempt is over.
func (a *attempt) say(to chan<- *attempt) error {
	select {
	case to <- a:
		return nil
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// link lets an attempt that is connected go on, or wait for what the vsock does.
func (p *poller) link(a *attempt) {
	switch {
	case a.vsock:
		p.favour(a)
		close(a.turn)
	case p.vsock:
		p.waiting = append(p.waiting, a)
		if p.grace == nil {
			p.grace = time.After(vsockGrace)
		}
	default:
		close(a.turn)
	}
}

// doWithout lets attempts by the network go on without waiting.
func (p *poller) doWithout() {
	p.vsock = false
	for _, a := range p.waiting {
		close(a.turn)
	}
	p.waiting = nil
}

// favour makes the other attempts give up. A second one that is answered has
// been told to already.
func (p *poller) favour(a *attempt) {
	if p.favoured != nil {
		return
	}
	p.favoured = a
	for other := range p.running {
		if other != a {
			other.cancel(errSuperseded)
		}
	}
}

func (p *poller) end(a *attempt) {
	a.cancel(nil)
	delete(p.running, a)
	p.waiting = slices.DeleteFunc(p.waiting, func(w *attempt) bool { return w == a })
	p.without = p.without || errors.Is(a.err, ErrNoVSock)
	if p.without || a.vsock && p.favoured == a { // that took it, and did not answer
		p.doWithout()
	}
	if p.favoured == a {
		p.favoured = nil
	}
}

// stop ends all attempts and waits until they have.
func (p *poller) stop() {
	for a := range p.running {
		a.cancel(errSuperseded)
	}
	for len(p.running) > 0 {
		a := <-p.results
		p.end(a)
		if a.conn != nil {
			a.conn.Close()
		}
	}
}

// try connects and asks for the status; a Conn is returned only with it.
func try(ctx context.Context, cfg Config, connected func() error, answered func()) (*Conn, guestapi.Status, error) {
	c, err := dial(ctx, cfg, connected, answered)
	if err != nil {
		return nil, guestapi.Status{}, err
	}
	s, err := c.Status(ctx)
	if err == nil && s.Version != guestapi.Version && s.Version != guestapi.Version-1 {
		err = fmt.Errorf("%w: %d, not %d", ErrVersion, s.Version, guestapi.Version)
	}
	if err != nil {
		c.Close()
		return nil, guestapi.Status{}, err
	}
	return c, s, nil
}
