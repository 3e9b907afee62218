package guest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banger/internal/guestapi"
)

var (
	errSilent     = errors.New("no answer")
	errSuperseded = errors.New("another attempt was answered first")
)

// A poller makes overlapping attempts. All but the attempts themselves runs in
// the goroutine of WaitReady.
type poller struct {
	cfg      Config
	answered chan *attempt // the guest has sent something
	results  chan *attempt // the attempt has ended
	running  map[*attempt]bool
	favoured *attempt // answered, and alone since
}

type attempt struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	conn   *Conn
	status guestapi.Status
	err    error
}

func newPoller(cfg Config) *poller {
	return &poller{
		cfg:      cfg,
		answered: make(chan *attempt),
		results:  make(chan *attempt),
		running:  make(map[*attempt]bool),
	}
}

// begin starts an attempt, unless one is being answered already: the guest's
// CPU is the bottleneck of a start.
func (p *poller) begin(ctx context.Context, patience time.Duration) {
	if p.favoured != nil {
		return
	}
	a := &attempt{}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	p.running[a] = true
	go func() {
		limit := time.AfterFunc(patience, func() { a.cancel(errSilent) })
		defer limit.Stop()
		a.conn, a.status, a.err = try(a.ctx, p.cfg, func() {
			limit.Reset(handshakeLimit)
			select {
			case p.answered <- a:
			case <-a.ctx.Done():
			}
		})
		p.results <- a
	}()
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
func try(ctx context.Context, cfg Config, answered func()) (*Conn, guestapi.Status, error) {
	c, err := dial(ctx, cfg, answered)
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
