package guest

import (
	"context"
	"errors"
	"sync"

	"banger"
)

// A Key names one launch of one VM: a VM that was started again has another
// guest program, and the old connection must not be taken for one to it.
type Key struct {
	VM     banger.VMID
	Launch string
}

// errDropped ends a dial whose key was dropped meanwhile.
var errDropped = errors.New("VM is being stopped")

// Connect makes a connection to one VM.
type Connect func(ctx context.Context) (*Conn, error)

// A Pool keeps one connection per running VM. It has no goroutine while nobody
// dials, and holds no lock while anybody does. The zero Pool is empty.
type Pool struct {
	mu      sync.Mutex
	entries map[Key]*entry
}

// An entry is a connection, or one being made.
type entry struct {
	cancel context.CancelCauseFunc // of the dial
	made   chan struct{}           // closed once conn or err is set
	conn   *Conn
	err    error
	asked  int // callers that wait for it; guarded by Pool.mu
}

// Get returns the connection to key's VM, which all callers share: they must
// not Close it. Where there is none, or it was lost, one is made with connect;
// who asks meanwhile waits for the same one. connect's ctx is no single caller's:
// it ends with Drop and once nobody waits any more, with the last one's cause;
// connect must end with it, and by itself when the VM does. Its error then is the
// last one's, too: it knows what the attempts met.
func (p *Pool) Get(ctx context.Context, key Key, connect Connect) (*Conn, error) {
	e := p.entry(key, connect)
	select {
	case <-e.made:
	case <-ctx.Done():
		if !p.leave(key, e, context.Cause(ctx)) {
			return nil, context.Cause(ctx)
		}
		<-e.made
		if e.conn != nil { // made in the same instant
			e.conn.Close()
			return nil, context.Cause(ctx)
		}
	}
	return e.conn, e.err
}

// leave is called by one who does not wait any longer, and reports whether that
// was the last: then the dial is ended.
func (p *Pool) leave(key Key, e *entry, cause error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.asked--; e.asked > 0 || p.entries[key] != e {
		return false
	}
	select {
	case <-e.made:
		return false
	default:
	}
	delete(p.entries, key)
	e.cancel(cause)
	return true
}

// Drop closes the connection to key's VM, if there is one.
func (p *Pool) Drop(key Key) {
	p.mu.Lock()
	old := p.entries[key]
	delete(p.entries, key)
	p.mu.Unlock()
	old.end()
}

// CloseAll drops every connection. The Pool may be used on.
func (p *Pool) CloseAll() {
	p.mu.Lock()
	all := p.entries
	p.entries = nil
	p.mu.Unlock()
	for _, e := range all {
		e.end()
	}
}

// entry returns key's entry, a new one when there is none that may be used.
func (p *Pool) entry(key Key, connect Connect) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil && !e.lost() {
		e.asked++
		return e
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	e := &entry{cancel: cancel, made: make(chan struct{}), asked: 1}
	p.set(key, e)
	go func() {
		defer cancel(nil)
		defer close(e.made)
		e.conn, e.err = connect(ctx)
	}()
	return e
}

// set puts e in and returns what was there; mu is held.
func (p *Pool) set(key Key, e *entry) (old *entry) {
	if p.entries == nil {
		p.entries = make(map[Key]*entry)
	}
	old = p.entries[key]
	p.entries[key] = e
	return old
}

// lost reports whether e is of no more use. It does not block.
func (e *entry) lost() bool {
	select {
	case <-e.made:
	default:
		return false
	}
	if e.err != nil {
		return true
	}
	select {
	case <-e.conn.Done():
		return true
	default:
		return false
	}
}

// end closes e's connection, made or being made. A nil entry has none.
func (e *entry) end() {
	if e == nil {
		return
	}
	e.cancel(errDropped)
	<-e.made
	if e.conn != nil {
		e.conn.Close()
	}
}
