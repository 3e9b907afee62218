//go:build faults

package blockdev_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"banger/internal/blockdev"
	"banger/internal/fault"
)

// At every point, from the first to the last, an attach or a detach fails or its
// process is killed. What is left then a detach takes away, or an attach makes
// whole, with the bytes that were written before.
func TestFaults(t *testing.T) {
	w := newDisks(t)
	must(t, os.MkdirAll(fault.Dir, 0o711))
	t.Cleanup(func() { os.Remove(fault.Dir + "/points"); os.Remove(fault.Dir + "/fault") })
	dev := w.attach(t, diskSize)
	must(t, write(t, dev, 8192, []byte("kept")))
	must(t, w.host.Detach(disk))
	cases := 0
	for _, op := range []string{"attach", "detach"} {
		for _, how := range []string{"fail", "kill"} {
			for n, met := 1, true; met; n++ {
				if op == "detach" {
					w.attach(t, diskSize)
				}
				must(t, os.WriteFile(fault.Dir+"/fault", fmt.Appendf(nil, "%d %s", n, how), 0o600))
				out, err := exec.Command("/proc/self/exe", "-test.run=^$", op, w.dir).CombinedOutput()
				if e := os.Remove(fault.Dir + "/fault"); e == nil {
					met = false // fewer points than that
				}
				if failed := err != nil; failed != met {
					t.Fatalf("%s, %s at point %d: %v: %s", op, how, n, err, out)
				}
				if how == "fail" && op == "attach" && met {
					w.nothing(t) // it has undone it
				}
				if met {
					cases++
				}
				if n%2 == 0 {
					dev := w.attach(t, diskSize)
					if got := read(t, dev, 8192, 4); got != "kept" {
						t.Errorf("%s, %s at point %d: %q", op, how, n, got)
					}
				}
				must(t, w.host.Detach(disk))
				w.nothing(t)
			}
		}
	}
	t.Logf("%d cases", cases)
	passed, err := os.ReadFile(fault.Dir + "/points")
	must(t, err)
	for _, point := range []string{
		"write udev's rule", "configure the loop of the image", "size of the loop of the image",
		"configure the loop of the copy-on-write file", "size of the loop of the copy-on-write file",
		"create the origin", "load the origin", "resume the origin", "create the snapshot", "load the snapshot", "resume the snapshot",
		"own the node", "status", "table", "remove the snapshot", "remove the origin",
	} {
		if !strings.Contains(string(passed), point+"\n") {
			t.Errorf("nothing failed at %q", point)
		}
	}
}

// From every point of an attach on everything fails, its undo, too: both are told,
// and what is left goes with the next detach.
func TestUndoFails(t *testing.T) {
	w := newDisks(t)
	must(t, os.MkdirAll(fault.Dir, 0o711))
	t.Cleanup(func() { os.Remove(fault.Dir + "/points"); os.Remove(fault.Dir + "/fault") })
	joined := 0
	for n := 1; ; n++ {
		must(t, os.WriteFile(fault.Dir+"/fault", fmt.Appendf(nil, "%d break", n), 0o600))
		out, err := exec.Command("/proc/self/exe", "-test.run=^$", "attach", w.dir).CombinedOutput()
		must(t, os.Remove(fault.Dir+"/fault"))
		if strings.Contains(string(out), "\nundo: ") && strings.Count(string(out), "injected at ") >= 2 {
			joined++
		}
		must(t, w.host.Detach(disk))
		w.nothing(t)
		if err == nil {
			break // fewer points than that
		}
	}
	if joined < 8 {
		t.Errorf("both failures were told %d times", joined)
	}
}

func init() {
	if len(os.Args) != 4 || os.Args[1] != "-test.run=^$" {
		return
	}
	dir := os.Args[3]
	h := blockdev.New(user, dir)
	err := errors.New(os.Args[2])
	switch os.Args[2] {
	case "attach":
		image, _ := os.Open(dir + "/image")
		cow, _ := os.OpenFile(dir+"/cow", os.O_RDWR, 0)
		_, err = h.Attach(disk, diskSize, image, cow)
	case "detach":
		err = h.Detach(disk)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}
