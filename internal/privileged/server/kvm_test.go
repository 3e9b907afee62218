package server_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/privileged/server"
	"banger/test/netns"
)

// device makes a character device that anybody who may can open, in a file
// system like /dev's.
func device(t *testing.T, mode uint32) (path string, now func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "dev") // this thread's own
	if err != nil {
		t.Fatal(err)
	}
	path = dir + "/kvm"
	for _, err := range []error{
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID, "mode=0755"),
		unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(1, 3))), unix.Chmod(path, mode),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path, func() string {
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, _ := unix.Lgetxattr(path, "system.posix_acl_access", b)
		m, _ := unix.Llistxattr(path, make([]byte, 4096))
		return st.Mode().String() + " " + string(b[:max(n, 0)]) + string(rune('0'+m))
	}
}

// A user who could not open the device can, and then cannot again: mode and
// attributes are what they were.
func TestKVM(t *testing.T) {
	netns.Enter(t)
	for _, mode := range []uint32{0o600, 0o660, 0o640} {
		path, now := device(t, mode)
		before := now()
		check := func(what string, uid uint32, may bool) {
			t.Helper()
			if got := villain(t, uid, "write", path); (got == "ok") != may {
				t.Errorf("%o, %s: uid %d opens it: %s", mode, what, uid, got)
			}
		}
		check("at first", user, false)
		for range 2 {
			if err := server.AllowKVM(path, user); err != nil {
				t.Fatal(err)
			}
			check("allowed", user, true)
			check("allowed", other, false)
		}
		if err := server.AllowKVM(path, other); err != nil {
			t.Fatal(err)
		}
		check("both allowed", other, true)
		for range 2 {
			if err := server.RevokeKVM(path, user); err != nil {
				t.Fatal(err)
			}
			check("revoked", user, false)
			check("revoked", other, true)
		}
		if err := server.RevokeKVM(path, other); err != nil {
			t.Fatal(err)
		}
		if got := now(); got != before {
			t.Errorf("%o: left %q, was %q", mode, got, before)
		}
	}
}

// What logind gave is not banger's to take back, and what all have needs no ACL.
func TestKVMOfOthers(t *testing.T) {
	netns.Enter(t)
	path, now := device(t, 0o660)
	seat := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xfe\xff\x00\x00" +
		"\x04\x00\x06\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	if err := unix.Lsetxattr(path, "system.posix_acl_access", []byte(seat), 0); err != nil {
		t.Fatal(err)
	}
	before := now()
	for _, f := range []func(string, uint32) error{server.AllowKVM, server.RevokeKVM} {
		if err := f(path, user); err != nil {
			t.Fatal(err)
		}
		if now() != before {
			t.Errorf("changed: %q, was %q", now(), before)
		}
	}
	for _, f := range []func(string, uint32) error{server.AllowKVM, server.RevokeKVM} {
		if err := f(path, other); err != nil {
			t.Fatal(err)
		}
	}
	if now() != before {
		t.Errorf("another user's come and go: %q, was %q", now(), before)
	}
	open, state := device(t, 0o666)
	before = state()
	if err := server.AllowKVM(open, user); err != nil || state() != before {
		t.Errorf("a device that all may open: %v %q", err, state())
	}
	for _, bad := range []string{path + "x", strings.TrimSuffix(path, "/kvm")} {
		if err := server.AllowKVM(bad, user); banger.CodeOf(err) != banger.HostUnready {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := server.RevokeKVM(path+"x", user); err != nil {
		t.Errorf("nothing to take back: %v", err)
	}
}

// What chmod has closed to all whom the ACL names is opened to none of them by
// another user's coming and going.
func TestKVMClosed(t *testing.T) {
	netns.Enter(t)
	for _, again := range []bool{false, true} { // somebody else is named, too
		path, now := device(t, 0o660)
		if err := server.AllowKVM(path, user); err != nil {
			t.Fatal(err)
		}
		if again {
			if err := server.AllowKVM(path, other); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		closed := now()
		for _, uid := range []uint32{user, other} {
			if err := server.AllowKVM(path, uid); banger.CodeOf(err) != banger.HostUnready || now() != closed {
				t.Errorf("uid %d: %v, %q", uid, err, now())
			}
		}
		if err := server.RevokeKVM(path, user); err != nil {
			t.Fatal(err)
		}
		if got := now(); !strings.HasPrefix(got, "Dcrw------- ") {
			t.Errorf("taken back: %q", got)
		}
		if got := villain(t, other, "write", path); got == "ok" {
			t.Error("now another user opens it")
		}
	}
}

// A user asks for it, and gets it, where this machine has the device.
func TestKVMAsked(t *testing.T) {
	netns.Enter(t)
	path, now := device(t, 0o600)
	if err := unix.Mount(path, "/dev/kvm", "", unix.MS_BIND, ""); err != nil {
		t.Skipf("SKIPPED: no /dev/kvm to put another one over: %v", err)
	}
	before := now()
	start(t, user)
	b, _ := connect(t, user)
	if got := b.ask("open /dev/kvm"); got == "ok" {
		t.Fatal("it may already")
	}
	want(t, "allow", b.ask("allow"), "ok")
	want(t, "open", b.ask("open /dev/kvm"), "ok")
	want(t, "revoke", b.ask("revoke"), "ok")
	if got := b.ask("open /dev/kvm"); got == "ok" || now() != before {
		t.Errorf("after it was taken back: %s %q", got, now())
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := server.ParseACL(b); err == nil && len(got) > len(b)+8 {
			t.Errorf("%x became %x", b, got)
		}
	})
}
