package privileged_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
	"banger/internal/privileged"
)

// pair is two ends of a connection.
func pair(t *testing.T) (a, b *net.UnixConn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*net.UnixConn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends = append(ends, c.(*net.UnixConn))
	}
	return ends[0], ends[1]
}

func open(t *testing.T) int {
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(ents)
}

// A message comes whole, with its descriptors, or it is refused, and no
// descriptor of a refused one stays open.
func TestReceive(t *testing.T) {
	a, b := pair(t)
	_ = a.SetWriteBuffer(1 << 20)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fds := func(n int) (all []int) {
		for range n {
			all = append(all, int(null.Fd()))
		}
		return all
	}
	for _, c := range []struct {
		bytes, files int
		refused      bool
	}{
		{1, 0, false}, {privileged.MaxMessage, 0, false}, {10, 1, false}, {10, 4, false}, {10, network.MaxPorts, false},
		{10, network.MaxPorts + 3, true}, {10, 250, true}, {privileged.MaxMessage + 1, 0, true}, {privileged.MaxMessage + 1, 3, true},
	} {
		before := open(t)
		var oob []byte
		if c.files > 0 {
			oob = unix.UnixRights(fds(c.files)...)
		}
		if _, _, err := a.WriteMsgUnix(make([]byte, c.bytes), oob, nil); err != nil {
			t.Fatal(c.bytes, err)
		}
		msg, files, err := privileged.Receive(b)
		if c.refused {
			if banger.CodeOf(err) != banger.Invalid || files != nil || open(t) != before {
				t.Errorf("%d bytes, %d descriptors: %v; %d descriptors are open, were %d", c.bytes, c.files, err, open(t), before)
			}
			continue
		}
		if err != nil || len(msg) != c.bytes || len(files) != c.files {
			t.Errorf("%d bytes, %d descriptors: %d, %d, %v", c.bytes, c.files, len(msg), len(files), err)
		}
		for _, f := range files {
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a received descriptor survives exec: %x %v", flags, err)
			}
		}
		privileged.CloseAll(files)
	}
	// Without a byte it is the end, with descriptors, too. The library adds a byte.
	before := open(t)
	oob := unix.UnixRights(fds(3)...)
	m := unix.Msghdr{Control: &oob[0]}
	m.SetControllen(len(oob))
	raw, err := a.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m)), 0); errno != 0 {
			t.Error("send descriptors alone:", errno)
		}
	})
	if _, files, err := privileged.Receive(b); !errors.Is(err, io.EOF) || files != nil || open(t) != before {
		t.Errorf("descriptors alone: %v; %d descriptors are open, were %d", err, open(t), before)
	}
	if err := privileged.Send(a, strings.Repeat("x", privileged.MaxMessage)); banger.CodeOf(err) != banger.Invalid {
		t.Errorf("send too much: %v", err)
	}
	a.Close()
	if _, _, err := privileged.Receive(b); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRootOwned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can make what is root's")
	}
	if err := privileged.RootOwned("/proc"); err != nil {
		t.Error(err)
	}
	if err := privileged.RootOwned("/nonexistent/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	// Below /run, since /tmp is everybody's.
	top, err := os.MkdirTemp("/run", "banger-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	file := filepath.Join(top, "d", "f")
	make := func(t *testing.T) {
		os.RemoveAll(filepath.Dir(file))
		for _, err := range []error{os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, spoil := range map[string]func() error{
		"":                         func() error { return nil },
		"file of a user":           func() error { return os.Chown(file, 1000, 0) },
		"file for a group":         func() error { return os.Chmod(file, 0o664) },
		"file for all":             func() error { return os.Chmod(file, 0o646) },
		"directory of a user":      func() error { return os.Chown(filepath.Dir(file), 1000, 0) },
		"directory for all":        func() error { return os.Chmod(filepath.Dir(file), 0o777) },
		"sticky directory for all": func() error { return os.Chmod(filepath.Dir(file), os.ModeSticky|0o777) },
		"link": func() error {
			return errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file))
		},
		"directory that is a link": func() error {
			return errors.Join(os.Rename(filepath.Dir(file), top+"/e"), os.Symlink(top+"/e", filepath.Dir(file)))
		},
	} {
		make(t)
		if err := spoil(); err != nil {
			t.Fatal(name, err)
		}
		err := privileged.RootOwned(file)
		if e := banger.AsError(err); (name != "") != (e != nil) || e != nil && (e.Code != banger.HostUnready || e.Remedy == "") {
			t.Errorf("%s: %v", name, err)
		}
		os.RemoveAll(top + "/e")
	}
	if err := privileged.RootOwned("relative"); err == nil {
		t.Error("a relative path")
	}
}
