// Package netns gives tests network namespaces of their own: nothing that a
// test does in one reaches the host's network, and the kernel removes it with
// the thread that entered it.
package netns

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Enter moves the test into a new network namespace that has a loopback link
// and nothing else, with a mount namespace in which /run and
// /var/log are empty. It locks the
// test's goroutine to its thread, which ends with the test; goroutines that the
// test starts are outside, processes that it starts are inside. A test without
// root is skipped.
func Enter(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	if err := enter(); err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces with taps need root; run as root to test this")
	}
}

func enter() error {
	// The thread shares its root and working directory with all others until now.
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	for _, dir := range []string{"/run", "/var/log"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return os.NewSyscallError("mount", err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Run runs f, which needs root, in namespaces as Enter makes them, and returns
// when it has ended. What holds for a test that has entered them holds for f.
func Run(f func() error) error {
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		err := enter()
		if err == nil {
			err = f()
		}
		ended <- err
	}()
	return <-ended
}

// A Thread is a thread in namespaces of its own, as Enter makes them.
type Thread struct {
	do    chan func()
	ended chan struct{}
}

// New starts a Thread that ends with the test.
func New(t testing.TB) *Thread {
	t.Helper()
	needRoot(t)
	th, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(th.Close)
	return th
}

// Open starts a Thread that ends when it is closed. It needs root.
func Open() (*Thread, error) {
	th := &Thread{do: make(chan func()), ended: make(chan struct{})}
	entered := make(chan error)
	go func() {
		defer close(th.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		entered <- enter()
		for f := range th.do {
			f()
		}
	}()
	if err := <-entered; err != nil {
		th.Close()
		return nil, err
	}
	return th, nil
}

// Close ends the thread, and with the last process in its namespaces these.
func (th *Thread) Close() {
	close(th.do)
	<-th.ended
}

// Do runs f in the thread's namespaces. It must not end the test.
func (th *Thread) Do(f func()) {
	done := make(chan struct{})
	th.do <- func() { defer close(done); f() }
	<-done
}
