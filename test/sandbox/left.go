package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Leftover is something of a Sandbox's that is still there.
type Leftover struct {
	What string
	PID  int // of a process, else 0
}

func (l Leftover) String() string { return l.What }

// Leftovers returns what uses the sandbox's directory: processes by their
// arguments or environment, mounts, loop devices.
func (s *Sandbox) Leftovers() ([]Leftover, error) {
	left, err := s.processes()
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+s.Dir+"/") {
			left = append(left, Leftover{What: "mount " + strings.TrimSpace(line)})
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, f := range loops {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), s.Dir+"/") {
			left = append(left, Leftover{What: fmt.Sprintf("loop device %s of %s", f, bytes.TrimSpace(b))})
		}
	}
	return left, nil
}

func (s *Sandbox) processes() ([]Leftover, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var left []Leftover
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid == os.Getpid() {
			continue
		}
		argv, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || len(argv) == 0 { // gone, a zombie or the kernel's
			continue
		}
		environ, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.ESRCH) {
			return nil, err
		}
		if bytes.Contains(argv, []byte(s.Dir+"/")) || bytes.Contains(environ, []byte("BANGER_STATE_DIR="+s.State+"\x00")) {
			left = append(left, Leftover{What: fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(argv, []byte{0}, []byte{' '})), PID: pid})
		}
	}
	return left, nil
}

func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
}
