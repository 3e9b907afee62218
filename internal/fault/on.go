//go:build faults

package fault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir holds the files that a test uses; root's own, like all below it.
const Dir = "/run/banger-root"

var (
	mu     sync.Mutex
	passed int // points since the file was last changed
	order  string
)

// At passes a point. Its name is appended to Dir/points. Dir/fault, if there is
// one, holds "N fail" or "N kill": at the N-th point that is passed from then
// on, from 1, At returns an error, or the process is killed as by SIGKILL. The
// file is removed first, so that the next process lives. "N break" lets that point
// and all later ones fail, and leaves the file. While there is a
// Dir/calm the point "set again" always fails, and counts for nothing: what
// banger-root does of itself would come between, whenever it likes.
func At(point string) error {
	mu.Lock()
	defer mu.Unlock()
	if _, err := os.Lstat(Dir + "/calm"); err == nil && point == "set again" {
		return errors.New("calm")
	}
	if f, err := os.OpenFile(Dir+"/points", os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
		f.WriteString(point + "\n")
		f.Close()
	}
	b, err := os.ReadFile(Dir + "/fault")
	if err != nil {
		passed, order = 0, ""
		return nil
	}
	if s := strings.TrimSpace(string(b)); s != order {
		passed, order = 0, s
	}
	passed++
	var n int
	var what string
	if _, err := fmt.Sscanf(order, "%d %s", &n, &what); err != nil || n > passed || n < passed && what != "break" {
		return nil
	}
	if what == "break" {
		return fmt.Errorf("injected at %s", point)
	}
	os.Remove(Dir + "/fault")
	if what == "kill" {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {} // until it comes
	}
	return fmt.Errorf("injected at %s", point)
}
