package e2e

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func pidfdOpen(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

// pidfdWait returns once the process has ended.
func pidfdWait(fd int, within time.Duration) error {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		if n == 1 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return err
		}
	}
	return os.ErrDeadlineExceeded
}
