package guest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"banger"
	"banger/internal/guest"
)

func dialer(cfg *guest.Config) guest.Connect {
	return func(ctx context.Context) (*guest.Conn, error) { return guest.Dial(ctx, *cfg) }
}

func TestPool(t *testing.T) {
	g, cfg := newGuest(t, nil)
	live, dials := cfg.Dial, atomic.Int32{}
	cfg.Dial = func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return live(ctx)
	}
	var p guest.Pool
	defer p.CloseAll()
	key := guest.Key{VM: "00000001", Launch: "0000000000000001"}

	got := make([]*guest.Conn, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = p.Get(limited(t), key, dialer(&cfg)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if dials.Load() != 1 {
		t.Fatalf("%d callers at once dialed %d times", len(got), dials.Load())
	}
	for _, c := range got {
		if c != got[0] {
			t.Error("callers got different connections")
		}
	}

	g.closeConns()
	<-got[0].Done()
	again, err := p.Get(limited(t), key, dialer(&cfg))
	if err != nil || again == got[0] {
		t.Fatalf("after the connection was lost: %v", err)
	}
	p.Drop(key)
	<-again.Done()
	p.Drop(key) // nothing there
}

// TestPoolDropsADialUnderWay, and a failed dial is not kept.
func TestPoolDropsADialUnderWay(t *testing.T) {
	_, cfg := newGuest(t, nil)
	live := cfg.Dial
	var p guest.Pool
	defer p.CloseAll()
	key := guest.Key{VM: "00000001"}
	cfg.Dial = silent(t, func(int) { p.Drop(key) })
	if _, err := p.Get(limited(t), key, dialer(&cfg)); err == nil {
		t.Fatal("got a connection that was dropped")
	}
	cfg.Dial = live
	if _, err := p.Get(limited(t), key, dialer(&cfg)); err != nil {
		t.Error(err)
	}
}

// TestPoolGivesUp: a dial goes on for as long as somebody waits for it; the last
// one is told what its attempts met.
func TestPoolGivesUp(t *testing.T) {
	_, cfg := newGuest(t, nil)
	refused := errors.New("nobody listens")
	dialed, ended := make(chan bool, 1), make(chan bool, 2)
	cfg.Dial = func(context.Context) (net.Conn, error) {
		select {
		case dialed <- true:
		default:
		}
		return nil, refused
	}
	var p guest.Pool
	defer p.CloseAll()
	key := guest.Key{VM: "00000001"}
	get := func(ctx context.Context) error {
		_, err := p.Get(ctx, key, func(ctx context.Context) (*guest.Conn, error) {
			c, _, err := guest.WaitReady(ctx, cfg, nil)
			ended <- true
			return c, err
		})
		return err
	}
	first, leave := context.WithCancelCause(limited(t))
	second, leaveToo := context.WithCancelCause(limited(t))
	errs := make(chan error, 2)
	go func() { errs <- get(first) }()
	<-dialed
	go func() { errs <- get(second) }()
	leave(errors.New("the first has had enough"))
	if err := <-errs; !strings.Contains(err.Error(), "first has had enough") {
		t.Errorf("first: %v", err)
	}
	for range 3 { // it goes on, unless the first was alone in that instant
		<-dialed
	}
	leaveToo(banger.Errorf(banger.TimedOut, "too late"))
	err := <-errs
	if banger.CodeOf(err) != banger.TimedOut || !errors.Is(err, refused) {
		t.Errorf("second: %v", err)
	}
	<-ended
}

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id_ed25519")
	keys := make([]ssh.Signer, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = guest.LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k == nil || guest.AuthorizedKey(k.PublicKey()) != guest.AuthorizedKey(keys[0].PublicKey()) {
			t.Fatal("made at once, but not the same key")
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}

	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.LoadOrCreateKey(path); banger.CodeOf(err) != banger.HostUnready {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o600)
	if _, err := guest.LoadOrCreateKey(path); err == nil {
		t.Error("a file that holds no key was taken")
	}
}

func TestPublicKey(t *testing.T) {
	private, public, err := guest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	got, err := guest.PublicKey(private)
	if err != nil || guest.AuthorizedKey(got) != guest.AuthorizedKey(public) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := guest.PublicKey("no key"); err == nil {
		t.Error("text that is no key was taken")
	}
}
