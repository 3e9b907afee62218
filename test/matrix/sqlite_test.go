package matrix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banger"
	"banger/internal/store"
)

// writerArg makes the test binary a process that writes to a database whose
// disk fails: "MODE N PATH".
const writerArg = "BANGER_MATRIX_WRITER"

// writes are what the daemon does to its database: together they touch every
// table, and end with a checkpoint.
var writes = []func(context.Context, *store.Store) error{
	func(ctx context.Context, s *store.Store) error {
		_, err := s.Setting(ctx, "tag", func() (string, error) { return "ab12", nil })
		return err
	},
	func(ctx context.Context, s *store.Store) error { return s.PutImage(ctx, someImage()) },
	func(ctx context.Context, s *store.Store) error {
		return s.PutStamp(ctx, someImage().Rootfs.Digest, banger.FileStamp{Size: 1})
	},
	insert("aaaaaaaa", "a", 2),
	change("aaaaaaaa", func(r *banger.Record) { r.Intent = banger.IntentStopped }),
	insert("bbbbbbbb", "b", 3),
	change("aaaaaaaa", func(r *banger.Record) {
		r.Intent, r.Run = banger.IntentRunning, &banger.Run{Launch: "0123456789abcdef"}
	}),
	change("aaaaaaaa", func(r *banger.Record) { r.Run.Handle = &banger.Handle{PID: 1, Launch: r.Run.Launch} }),
	func(ctx context.Context, s *store.Store) error { return s.DeleteVM(ctx, "bbbbbbbb") },
	change("aaaaaaaa", func(r *banger.Record) { r.Intent, r.Run = banger.IntentStopped, nil }),
}

func someImage() banger.Image {
	d := func(n int) banger.Artifact {
		return banger.Artifact{Digest: banger.Digest(fmt.Sprintf("sha256:%064x", n)), Size: 1}
	}
	return banger.Image{ID: "0123456789ab", Name: "i", Default: true, Rootfs: d(1), Kernel: d(2), Initramfs: d(3), Modules: d(4)}
}

func insert(id banger.VMID, name string, n byte) func(context.Context, *store.Store) error {
	return func(ctx context.Context, s *store.Store) error {
		r := banger.Record{
			ID: id, ImageID: someImage().ID, Intent: banger.IntentCreating, HostKey: strings.Repeat("k", 3000), CreatedAt: time.Unix(1, 0),
			Spec: banger.Spec{Name: name, Image: "i", CPUs: 1, Memory: 1 << 27, Disk: 1 << 24, Network: banger.NetworkUser, NAT: banger.NATWanted, Backend: "qemu"},
		}
		_, err := s.CreateVM(ctx, r, func([]banger.Lease) (banger.Lease, error) {
			return banger.Lease{Addr: netip.AddrFrom4([4]byte{10, 0, 0, n}), MAC: fmt.Sprintf("02:00:00:00:00:%02x", n), MachineID: fmt.Sprintf("%032x", n)}, nil
		})
		return err
	}
}

func change(id banger.VMID, edit func(*banger.Record)) func(context.Context, *store.Store) error {
	return func(ctx context.Context, s *store.Store) error {
		_, err := s.UpdateVM(ctx, id, func(r *banger.Record) error { edit(r); return nil })
		return err
	}
}

// content prints what a database says.
func content(ctx context.Context, s *store.Store) (string, error) {
	tag, err := s.Setting(ctx, "tag", func() (string, error) { return "", errors.New("none") })
	if err != nil {
		tag = "none"
	}
	images, err := s.Images(ctx)
	if err != nil {
		return "", err
	}
	stamps, err := s.Stamps(ctx)
	if err != nil {
		return "", err
	}
	vms, err := s.VMs(ctx)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("tag %s, %d images, %d stamps", tag, len(images), len(stamps))
	for _, v := range vms {
		out += fmt.Sprintf("; %s %s %s, %d bytes of key", v.Spec.Name, v.Intent, v.Lease.Addr, len(v.HostKey))
		if v.Run != nil {
			out += fmt.Sprintf(", launch %s, handle %v", v.Run.Launch, v.Run.Handle != nil)
		}
	}
	return out, nil
}

// writer is the process whose disk fails. It says on stdout how many writes
// were acknowledged; one that failed it does again once the disk works.
func writer(arg string) int {
	var mode, path string
	var at int
	if _, err := fmt.Sscanf(arg, "%s %d %s", &mode, &at, &path); err != nil {
		return fail("%v", err)
	}
	breakDisk(mode, at)
	ctx := context.Background()
	var s *store.Store
	open := func(context.Context, *store.Store) (err error) {
		s, err = store.Open(ctx, path)
		return err
	}
	for i, write := range append([]func(context.Context, *store.Store) error{open}, writes...) {
		err := write(ctx, s)
		if err != nil {
			if e := banger.AsError(err); e.Code != banger.HostUnready || e.Remedy == "" {
				return fail("write %d: no clear error: %s %v %q", i, e.Code, err, e.Remedy)
			}
			faultyDisk.at = 0 // there is room again
			if s != nil {
				said, err := content(ctx, s)
				fmt.Printf("after %d failed: %s, %v\n", i, said, err)
			}
			if err := write(ctx, s); err != nil {
				return fail("write %d, once more: %v", i, err)
			}
		}
		fmt.Println("acknowledged", i)
	}
	if err := s.Close(); err != nil && faultyDisk.at == 0 {
		return fail("close: %v", err)
	}
	fmt.Println("writes", faultyDisk.n)
	return 0
}

func fail(format string, a ...any) int {
	fmt.Printf(format+"\n", a...)
	return 1
}

// runWriter returns what a writer said, and whether it was killed.
func runWriter(t *testing.T, mode string, at int, path string) (said string, dead bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{fmt.Sprintf("%s=%s %d %s", writerArg, mode, at, path)}
	out, err := cmd.CombinedOutput()
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGKILL {
		return string(out), true
	}
	if err != nil {
		t.Errorf("%s at %d: %v\n%s", mode, at, err, out)
	}
	return string(out), false
}

// TestSQLite kills a process at everything that it writes to its database: in
// its middle and after it. What was acknowledged is there, what was not is there
// as a whole or not at all. Then the disk is full, or broken, at each: a clear
// error, nothing lost, and all goes on once there is room.
func TestSQLite(t *testing.T) {
	need(t)
	states := statesOf(t)
	said, _ := runWriter(t, "none", 0, filepath.Join(t.TempDir(), "db"))
	_, n, _ := strings.Cut(said, "writes ")
	total, err := strconv.Atoi(strings.TrimSpace(n))
	if err != nil || total < len(writes) {
		t.Fatalf("a writer with a good disk says %q", said)
	}
	var tried, deaths atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for _, mode := range []string{"torn", "done", "full", "broken"} {
		for at := 1; at <= total; at++ {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				path := filepath.Join(t.TempDir(), "db")
				said, dead := runWriter(t, mode, at, path)
				if wantsDead := mode == "torn" || mode == "done"; dead != wantsDead {
					t.Errorf("%s at %d: killed is %v\n%s", mode, at, dead, said)
				}
				tried.Add(1)
				if dead {
					deaths.Add(1)
				}
				checkDatabase(t, fmt.Sprintf("%s at %d", mode, at), path, said, states)
			})
		}
	}
	wg.Wait()
	t.Logf("report: sqlite: %d writes, each torn, cut off, without room and broken: %d cases, %d processes killed, 0 untested", total, tried.Load(), deaths.Load())
}

// statesOf are what a sound database says after each write: nothing, then one
// more of them each.
func statesOf(t *testing.T) (states []string) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := -1; i < len(writes); i++ {
		if i >= 0 {
			if err := writes[i](t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		now, err := content(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, now)
	}
	return states
}

// checkDatabase holds a database against what its writer was told.
func checkDatabase(t *testing.T, what, path, said string, states []string) {
	t.Helper()
	acknowledged := strings.Count(said, "acknowledged ") - 1 // the first is the opening
	for line := range strings.Lines(said) {
		var i int
		if rest, ok := strings.CutPrefix(line, "after "); ok {
			number, now, _ := strings.Cut(strings.TrimSpace(rest), " failed: ")
			if i, _ = strconv.Atoi(number); now != states[max(0, i-1)]+", <nil>" {
				t.Errorf("%s: after write %d had failed: %s, want %s", what, i, now, states[max(0, i-1)])
			}
		}
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Errorf("%s: open it again: %v", what, err)
		return
	}
	defer s.Close()
	now, err := content(t.Context(), s)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	known := max(0, acknowledged)
	if now != states[known] && (known+1 >= len(states) || now != states[known+1]) {
		t.Errorf("%s: %d writes were acknowledged, and the database says %s", what, acknowledged, now)
	}
	if sound, err := integrity(path); err != nil || sound != "ok" {
		t.Errorf("%s: integrity: %s, %v", what, sound, err)
	}
}
