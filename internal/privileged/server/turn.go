package server

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// alone calls f while no other uid's banger-root does the same: two that looked at
// once would find the same addresses free, and of two that change the ACL of a
// device at once one would be undone. The lock is the directory's, which no user
// may open.
func alone(dir string, f func() error) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close() // which unlocks
	for {
		if err = unix.Flock(int(d.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	return f()
}
