package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banger"
)

// A socket is a listener that only this user's processes get through, and that
// can be made again when its file is gone: a logout may empty /run/user.
type socket struct {
	path  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	l     *net.UnixListener
	inode uint64
}

func listen(path string) (*socket, error) {
	s := &socket{path: path, conns: make(chan net.Conn), done: make(chan struct{})}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, banger.Errorf(banger.Exists, "another daemon listens on %s", path).
			WithRemedy("give this one a run directory of its own: BANGER_RUN_DIR=DIR")
	}
	return s, s.open()
}

// handOver is how long a daemon that lost its state directory may take until it
// gives up the socket to the one that was started in its place.
const handOver = 5 * time.Second

// listenPatiently is listen, where another daemon is about to end.
func listenPatiently(path string) (*socket, error) {
	for late := time.Now().Add(handOver); ; time.Sleep(lockEvery) {
		s, err := listen(path)
		if banger.CodeOf(err) != banger.Exists || time.Now().After(late) {
			return s, err
		}
	}
}

// open makes the file and accepts on it. The directory is 0700, and the umask
// 0077, so that nobody else can connect before the mode is set.
func (s *socket) open() error {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// The file may be another daemon's by the time this one ends.
	l.SetUnlinkOnClose(false)
	inode, err := inodeOf(s.path)
	if err == nil {
		err = os.Chmod(s.path, 0o600)
	}
	if err != nil {
		l.Close()
		return fmt.Errorf("listen: %w", err)
	}
	s.mu.Lock()
	s.l, s.inode = l, inode
	s.mu.Unlock()
	go s.accept(l)
	return nil
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// mend makes the socket again if its file is gone; prepare makes its directory.
func (s *socket) mend(prepare func() error) error {
	s.mu.Lock()
	l := s.l
	s.mu.Unlock()
	if _, err := os.Lstat(s.path); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := prepare(); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	return l.Close()
}

func (s *socket) accept(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors: do not spin
			continue
		}
		if uid, err := peer(c); err != nil || uid != os.Geteuid() {
			c.Close()
			continue
		}
		select {
		case s.conns <- c:
		case <-s.done:
			c.Close()
			return
		}
	}
}

// peer returns the user at the other end.
func peer(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(cerr, err); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// Accept, Close and Addr implement net.Listener.
func (s *socket) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close removes the file, if it is still this socket's.
func (s *socket) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		s.mu.Lock()
		defer s.mu.Unlock()
		if inode, ierr := inodeOf(s.path); ierr == nil && inode == s.inode {
			err = os.Remove(s.path)
		}
		err = errors.Join(err, s.l.Close())
	})
	return err
}

func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }
