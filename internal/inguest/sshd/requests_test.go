package sshd_test

import (
	"encoding/json"
	"testing"

	"banger/internal/guestapi"
)

func TestLoginRefused(t *testing.T) {
	g := newGuest(t)
	_, stranger := newKey(t)
	if c, err := g.dial(stranger, "dev"); err == nil {
		c.Close()
		t.Error("a stranger's key got in")
	}
	for _, user := range []string{"nosuch", "", "dev:x"} {
		if c, err := g.dial(g.signer, user); err == nil {
			c.Close()
			t.Errorf("user %q got in", user)
		}
	}
}

func TestRequests(t *testing.T) {
	g := newGuest(t)
	c := g.client(t)
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil || !ok {
		t.Errorf("keepalive: %v, %v", ok, err)
	}
	if ok, _, err := c.SendRequest("no-such@banger", true, nil); err != nil || ok {
		t.Errorf("unknown request: %v, %v", ok, err)
	}
	status := func(name string) (st guestapi.Status) {
		t.Helper()
		ok, body, err := c.SendRequest(name, true, nil)
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", name, ok, err)
		}
		if err := json.Unmarshal(body, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := status(guestapi.StatusRequest); st.Version != guestapi.Version || st.System != "starting" {
		t.Errorf("status %+v", st)
	}
	close(g.machine.booted)
	if st := status(guestapi.WaitBootedRequest); !st.Booted {
		t.Errorf("status %+v", st)
	}
}

// TestWaitBootedAlone: a client that waits for the boot gets its commands run.
func TestWaitBootedAlone(t *testing.T) {
	g := newGuest(t)
	c := g.client(t)
	answered := make(chan error, 1)
	go func() {
		_, _, err := c.SendRequest(guestapi.WaitBootedRequest, true, nil)
		answered <- err
	}()
	if out, err := session(t, c).Output("echo meanwhile"); err != nil || string(out) != "meanwhile\n" {
		t.Errorf("%q, %v", out, err)
	}
	close(g.machine.booted)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestShutdownRequest(t *testing.T) {
	g := newGuest(t)
	ok, reply, err := g.client(t).SendRequest(guestapi.ShutdownRequest, true, []byte("reboot"))
	if err != nil {
		t.Fatal(err)
	}
	// The account is the test's own user: only root may.
	if isRoot() != ok {
		t.Fatalf("root %v, answered %v %q", isRoot(), ok, reply)
	}
	if ok {
		if how := <-g.machine.ended; how != "reboot" {
			t.Errorf("ended by %q", how)
		}
	}
}
