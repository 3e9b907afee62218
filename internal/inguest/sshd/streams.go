package sshd

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// streams are both ends of a command's standard streams.
type streams struct {
	child  [3]*os.File
	stdin  *os.File
	output []*os.File
	master *os.File
	tty    string // the terminal's name, "" without one
}

// streams makes pipes, or a terminal when one was asked for.
func (s *session) streams(a account) (*streams, error) {
	if s.pty != nil {
		return s.terminal(a)
	}
	st := &streams{}
	for i := range st.child {
		r, w, err := os.Pipe()
		if err != nil {
			st.closeChild()
			st.closeOwn()
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		if i == 0 {
			st.child[i], st.stdin = r, w
		} else {
			st.child[i] = w
			st.output = append(st.output, r)
		}
	}
	return st, nil
}

// ttyGroup is the group tty: 5 in every distribution that follows systemd, and
// what devpts is mounted with.
const ttyGroup = 5

func (s *session) terminal(a account) (*streams, error) {
	master, slave, err := openTerminal()
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	if os.Geteuid() == 0 { // best effort: root's own terminal works anyway
		unix.Fchown(int(slave.Fd()), int(a.UID), ttyGroup)
		unix.Fchmod(int(slave.Fd()), 0o620)
	}
	setWindow(master, s.pty.window)
	s.pty.modes.apply(slave)
	return &streams{
		child: [3]*os.File{slave, slave, slave}, tty: slave.Name(),
		stdin: master, output: []*os.File{master}, master: master,
	}, nil
}

// openTerminal opens both ends of a new terminal. The master does not block, so
// that reading it can be given up.
func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

// closeChild closes the ends that the command has, or never got.
func (st *streams) closeChild() {
	for _, f := range st.child {
		if f != nil {
			f.Close() // a terminal three times over: the later ones do nothing
		}
	}
}

func (st *streams) closeOwn() {
	if st.stdin != nil {
		st.stdin.Close()
	}
	for _, f := range st.output {
		f.Close()
	}
}
